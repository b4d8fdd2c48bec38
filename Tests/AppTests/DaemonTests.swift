import Glibc
import Testing

@testable import Adapters
@testable import App
@testable import Domain

/// The daemon end to end: real processes, the real kernel, the real protocol.
@Suite(.enabled(if: hasUserfaultfd))
struct DaemonTests {
  private static let pages = 4096

  private func metric(_ reply: JSONValue, _ name: String) -> Int? { reply["metrics"]?[name]?.int }

  @Test func `a whole life: every page right in every state`() throws {
    let daemon = try Daemon()
    let tenant = try TenantProcess(daemon, pages: Self.pages)
    let client = try daemon.client()
    func ask(_ op: String) throws -> JSONValue {
      try client.ask(["op": .string(op), "tenant": .string(TenantProcess.name), "wait": true])
    }
    var reply = try client.ask(["op": "status", "tenant": .string(TenantProcess.name)])
    #expect(reply["state"] == "Ready" && metric(reply, "resident_pages") == Self.pages)
    reply = try ask("enable")
    #expect(reply["state"] == "Pending" && metric(reply, "staging_pages") == Self.pages)
    #expect(metric(reply, "resident_pages") == 0)
    tenant.process.writeLine("hot")
    reply = try ask("trim")
    #expect(reply["state"] == "Pending")
    #expect(try #require(reply["state_transition"]?["pages"]?.int) > Self.pages / 8, "zero pages are dropped")
    reply = try ask("out")
    #expect(reply["state"] == "Active" && metric(reply, "staging_pages") == 0)
    #expect(try #require(metric(reply, "swap_pages")) > Self.pages / 2)
    tenant.process.writeLine("end")
    _ = try tenant.answer("max")
    #expect(try tenant.mismatches() == 0)
    reply = try ask("enable")
    reply = try ask("trim")
    #expect(try #require(metric(reply, "swap_pages")) > Self.pages / 2, "unchanged pages are found by their checksums")
    reply = try ask("disable")
    #expect(reply["state"] == "Ready" && metric(reply, "swap_pages") == 0 && metric(reply, "staging_pages") == 0)
    #expect(metric(reply, "copied_from_file_pages") == 0, "in Ready all but resident_pages are 0")
    #expect(try tenant.mismatches() == 0)
  }

  @Test func `commands come in any order, and one ends another`() throws {
    let daemon = try Daemon()
    let tenant = try TenantProcess(daemon, pages: Self.pages)
    let name = JSONValue.string(TenantProcess.name)
    let (one, other) = (try daemon.client(), try daemon.client())
    #expect(try one.ask(["op": "disable", "tenant": name])["state"] == "Ready", "disable in Ready is no error")
    for op in ["trim", "out"] {
      let reply = try one.exchange(["op": .string(op), "tenant": name])
      #expect(code(reply) == "wrong-state" && reply["error"]?["state"] == "Ready")
    }
    tenant.process.writeLine("hot")
    var state: UInt64 = 5
    for _ in 0..<60 {
      state = SplitMix.mix(state)
      let op = ["enable", "trim", "out", "disable", "enable"][Int(state % 5)]
      let client = state >> 32 & 1 == 0 ? one : other
      let reply = try client.exchange(["op": .string(op), "tenant": name, "wait": .bool(state >> 40 & 1 == 0)])
      #expect(["wrong-state", "aborted", nil].contains(code(reply)), "\(op): \(reply)")
    }
    tenant.process.writeLine("end")
    _ = try tenant.answer("max")
    #expect(try one.ask(["op": "disable", "tenant": name, "wait": true])["state"] == "Ready")
    #expect(try tenant.mismatches() == 0)
  }

  @Test func `who waits for an operation that another command ends is told so`() throws {
    let daemon = try Daemon()
    let tenant = try TenantProcess(daemon, pages: 32_768)
    let name = JSONValue.string(TenantProcess.name)
    let (one, other) = (try daemon.client(), try daemon.client())
    _ = try one.ask(["op": "enable", "tenant": name])
    let socket = try SequencedSocket(connectingTo: daemon.socketPath)
    _ = try socket.send(JSONValue.object(["op": "out", "tenant": name, "wait": true, "id": 77]).bytes)
    try eventually("out has begun") { try daemon.state(TenantProcess.name) == "SwapOutInProgress" }
    #expect(code(try other.exchange(["op": "trim", "tenant": name])) == "wrong-state")
    #expect(try other.ask(["op": "enable", "tenant": name])["state"] == "Pending")
    guard case .packet(let packet) = try socket.receive() else { throw Complaint("no reply") }
    let reply = try #require(JSONValue.parse(packet.bytes))
    #expect(code(reply) == "aborted" && reply["id"] == 77, "\(reply)")
    _ = try other.ask(["op": "disable", "tenant": name, "wait": true])
    #expect(try tenant.mismatches() == 0)
  }

  @Test func `a tenant under caller is enabled by its own connection only`() throws {
    let daemon = try Daemon()
    let own = try OwnTenant(daemon)
    #expect(
      code(try daemon.client().exchange(["op": "enable", "tenant": .string(own.name)])) == "permission-denied")
    #expect(metric(try own.ask("enable"), "staging_pages") == own.memory.pageCount)
    #expect(own.memory.mismatches(in: 0..<128) == 0)
    #expect(metric(try own.ask("out"), "swap_pages") ?? 0 > 0)
    #expect(own.memory.mismatches(in: 0..<own.memory.pageCount) == 0)
    #expect(try own.ask("unregister")["ok"] == true)
  }

  @Test func `removed pages read as zeros, wherever they were`() throws {
    let daemon = try Daemon()
    let own = try OwnTenant(daemon, pages: 64)
    func remove(_ page: Int) {
      let address = UnsafeMutableRawPointer(bitPattern: UInt(own.memory.address))! + own.geometry.bytes(inPages: page)
      #expect(madvise(address, own.geometry.pageBytes, MADV_REMOVE) == 0)
    }
    func isZero(_ page: Int) -> Bool {
      let address = UnsafeRawPointer(bitPattern: UInt(own.memory.address))! + own.geometry.bytes(inPages: page)
      return UnsafeRawBufferPointer(start: address, count: own.geometry.pageBytes).allSatisfy { $0 == 0 }
    }
    _ = try own.ask("enable")
    remove(3)  // in staging
    _ = own.memory.touch(4)
    remove(4)  // resident
    _ = try own.ask("out")
    #expect(metric(try own.ask("status"), "removed_pages") == 2)
    remove(5)  // in the file
    for page in 3...5 { #expect(isZero(page), "page \(page)") }
    _ = try own.ask("enable")
    _ = try own.ask("disable")
    for page in 3...5 { #expect(isZero(page), "page \(page) after disable") }
    #expect(own.memory.mismatches(in: 6..<64) == 0)
  }

  @Test func `a tenant that dies is forgotten at once, in the middle of anything`() throws {
    let daemon = try Daemon()
    let before = try daemon.settledDescriptorCount()
    for op in ["enable", "out", "status"] {
      let tenant = try TenantProcess(daemon, pages: Self.pages)
      let client = try daemon.client()
      _ = try client.ask(["op": "enable", "tenant": .string(TenantProcess.name)])
      _ = try client.ask(["op": .string(op), "tenant": .string(TenantProcess.name)])
      tenant.process.end(signal: SIGKILL)
      try eventually("the tenant is forgotten") { try daemon.client().list().isEmpty }
    }
    try eventually("its descriptors are closed") { daemon.descriptorCount <= before }
  }

  @Test func `closing its connection brings a tenant's memory back`() throws {
    let daemon = try Daemon()
    var own: OwnTenant? = try OwnTenant(daemon)
    let memory = try #require(own?.memory)
    let userfaultfd = own?.userfaultfd
    _ = try own?.ask("enable")
    own = nil  // the client's socket goes
    try eventually("the tenant is forgotten") { try daemon.client().list().isEmpty }
    #expect(memory.mismatches(in: 0..<memory.pageCount) == 0)
    _ = userfaultfd
  }

  @Test func `SIGTERM brings everything back and removes the socket`() throws {
    let daemon = try Daemon()
    let tenant = try TenantProcess(daemon, pages: Self.pages)
    let own = try OwnTenant(daemon)
    _ = try own.ask("enable")
    for op in ["enable", "out"] {
      _ = try daemon.client().ask(["op": .string(op), "tenant": .string(TenantProcess.name), "wait": true])
    }
    #expect(daemon.process.end(signal: SIGTERM) == 0)
    #expect(access(daemon.socketPath, F_OK) != 0)
    #expect(own.memory.mismatches(in: 0..<own.memory.pageCount) == 0)
    #expect(try tenant.mismatches() == 0)
  }

  @Test func `two daemons do not share a socket, and a stale one is replaced`() throws {
    let daemon = try Daemon()
    let second = try ChildProcess(
      executable: program, arguments: ["serve", "--socket", daemon.socketPath, "--swap-dir", daemon.swapDirectory],
      keepsErrors: false)
    #expect(second.end() == 1)
    daemon.process.end(signal: SIGKILL)
    try eventually("its worker is gone, too") { (try? daemon.client()) == nil }
    let third = try ChildProcess(
      executable: program,
      arguments: ["serve", "--end-with-parent", "--socket", daemon.socketPath, "--swap-dir", daemon.swapDirectory],
      keepsErrors: false)
    try eventually("the third daemon listens") { (try? daemon.client()) != nil }
    #expect(third.end(signal: SIGTERM) == 0)
  }

  @Test func `two large, nearly empty regions cost next to nothing`() throws {
    let daemon = try Daemon()
    let sparse = try SparseTenant(daemon, sizes: [3_489_660_928, 3_537_895_424], residentPages: 1542)
    let reply = try sparse.client.ask(["op": "enable", "wait": true])
    #expect(metric(reply, "staging_pages") == 1542)
    #expect(metric(reply, "resident_pages") == 0)
    _ = try sparse.client.ask(["op": "out", "wait": true])
    #expect(sparse.isIntact())
    _ = try sparse.client.ask(["op": "disable", "wait": true])
    #expect(sparse.isIntact())
  }
}
