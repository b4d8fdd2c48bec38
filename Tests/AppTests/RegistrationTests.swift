import Glibc
import Testing

@testable import Adapters
@testable import App
@testable import Domain

/// What `register` refuses, on the real kernel: by code, in words, and without anything left behind.
@Suite(.enabled(if: hasUserfaultfd))
struct RegistrationTests {
  @Test func `every refusal has its code and names the field, and leaks no descriptor`() throws {
    let daemon = try Daemon()
    let own = try OwnTenant(daemon, registers: false)
    _ = try own.client.ask(["op": "list"])  // the connection is let in by now
    let before = try daemon.settledDescriptorCount()
    let right = [own.userfaultfd, own.memory.file]
    let page = JSONValue.int(own.geometry.pageBytes)
    let cases: [([String: JSONValue], [Descriptor], String, String)] = [
      (own.request(["protocol": 9]), right, "unsupported-protocol", "9"),
      (own.request(["tenant": ""]), right, "invalid-request", "tenant"),
      (own.request(["tenant": "a b"]), right, "invalid-request", "a b"),
      (own.request(["tenant": .string(String(repeating: "x", count: 65))]), right, "invalid-request", "64"),
      (own.request(["freeze": "melt"]), right, "invalid-request", "melt"),
      (own.request(["regions": []]), right, "invalid-region", "1 to 64"),
      (own.request(region: ["address": .unsigned(own.memory.address + 1)]), right, "invalid-region", "address"),
      (own.request(region: ["size": 0]), right, "invalid-region", "size"),
      (own.request(region: ["size": 4097]), right, "invalid-region", "4097"),
      (own.request(region: ["size": .unsigned(1 << 63)]), right, "invalid-region", "size"),
      (own.request(region: ["offset": page]), right, "invalid-region", "end of memfd 0"),
      (own.request(region: ["memfd": 1]), right, "invalid-region", "memfd"),
      (
        own.request(region: ["address": .unsigned(own.memory.address + (1 << 40))]), right, "invalid-region",
        "does not map"
      ),
      (own.request(), [], "invalid-request", "0 descriptors"),
      (own.request(), [own.userfaultfd], "invalid-request", "1 descriptor "),
      (own.request(), [own.memory.file, own.memory.file], "invalid-descriptor", "not a userfaultfd"),
      (own.request(), right + [own.memory.file], "invalid-request", "memfd 1"),
    ]
    for (request, descriptors, expected, words) in cases {
      let reply = try own.client.exchange(request, descriptors: descriptors)
      #expect(code(reply) == expected, "\(reply)")
      #expect(reply["error"]?["message"]?.text?.contains(words) == true, "\(reply)")
    }
    try eventually("refused descriptors are closed") { daemon.descriptorCount <= before }
    // The same connection is not the worse for it.
    #expect(try own.client.ask(own.request(), descriptors: right)["page_size"] == page)
  }

  @Test func `memfds that can't be served are refused`() throws {
    let daemon = try Daemon()
    let own = try OwnTenant(daemon, registers: false)
    func file(_ flags: UInt32, _ seals: Int32, _ openFlags: Int32 = O_RDWR) throws -> Descriptor {
      let file = Descriptor(owning: memfd_create("bad", flags))
      ftruncate(file.raw, Int(own.bytes))
      if seals != 0 { #expect(fcntl(file.raw, F_ADD_SEALS, seals) == 0) }
      return openFlags == O_RDWR ? file : Descriptor(owning: open("/proc/self/fd/\(file.raw)", openFlags))
    }
    let sealing = UInt32(MFD_ALLOW_SEALING)
    for (bad, words) in [
      (try file(sealing, 0), "F_SEAL_SHRINK"), (try file(sealing, F_SEAL_SHRINK | F_SEAL_WRITE), "F_SEAL_WRITE"),
      (try file(sealing, F_SEAL_SHRINK, O_RDONLY), "reading and writing"),
      (Descriptor(owning: open("/dev/zero", O_RDWR)), "not a memfd"),
    ] {
      let reply = try own.client.exchange(own.request(), descriptors: [own.userfaultfd, bad])
      #expect(code(reply) == "invalid-descriptor", "\(reply)")
      #expect(reply["error"]?["message"]?.text?.contains(words) == true, "\(reply)")
    }
  }

  @Test func `names and bytes are given once`() throws {
    let daemon = try Daemon()
    let first = try OwnTenant(daemon, name: "one")
    let second = try OwnTenant(daemon, name: "one", registers: false)
    let files = [second.userfaultfd, second.memory.file]
    #expect(code(try second.client.exchange(second.request(), descriptors: files)) == "name-taken")
    #expect(
      code(
        try second.client.exchange(
          second.request(["tenant": "two"], region: ["address": .unsigned(first.memory.address)]),
          descriptors: [second.userfaultfd, first.memory.file])) == "region-overlap")
    _ = try second.client.ask(second.request(["tenant": "two"]), descriptors: files)
    #expect(
      code(try second.client.exchange(second.request(["tenant": "three"]), descriptors: files)) == "invalid-request",
      "a connection registers one tenant at a time")
    let names = try daemon.client().list().compactMap { $0["tenant"]?.text }
    #expect(names == ["one", "two"])
    _ = try first.ask("unregister")
    _ = try first.client.ask(first.request(), descriptors: [first.userfaultfd, first.memory.file])
  }

  @Test func `bad packets get an answer, and the connection goes on`() throws {
    let daemon = try Daemon()
    let socket = try SequencedSocket(connectingTo: daemon.socketPath)
    func answer(_ bytes: [UInt8]) throws -> JSONValue {
      _ = try socket.send(bytes)
      guard case .packet(let packet) = try socket.receive() else { throw Complaint("the connection was closed") }
      return try #require(JSONValue.parse(packet.bytes))
    }
    #expect(code(try answer([])) == "invalid-request")
    #expect(code(try answer([0xFF, 0xFE])) == "invalid-request")
    #expect(code(try answer([UInt8](repeating: 32, count: 65_537))) == "too-large")
    let padded = Array(#"{"op":"list"}"#.utf8) + [UInt8](repeating: 32, count: 65_536 - 13)
    #expect(try answer(padded)["ok"] == true)
    #expect(code(try answer(Array(#"{"op":"status","tenant":"nobody"}"#.utf8))) == "no-such-tenant")
    #expect(code(try answer(Array(#"{"op":"status"}"#.utf8))) == "no-such-tenant")
  }
}
