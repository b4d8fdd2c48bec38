import Glibc
import Testing

@testable import Adapters
@testable import App

/// Processes that know nothing of the daemon become tenants, and are left as they were.
@Suite(.enabled(if: hasUserfaultfd && isRoot && python != nil, "it needs root, python3 and a userfaultfd"))
struct AttachTests {
  /// Tests/Clients/unchanged.py.
  private final class Stranger {
    let process: ChildProcess
    private var inherited: [String] = []
    var pid: Int32 { process.handle.pid }

    /// - Parameter user: whose it is; nil for root.
    init(_ options: [String] = [], user: Int? = nil) throws {
      let words = ["-B", clientPath("unchanged.py")] + options
      let interpreter = try #require(python)
      process = try ChildProcess(
        executable: user == nil ? interpreter : "/usr/bin/setpriv",
        arguments: user.map { ["--reuid", "\($0)", "--clear-groups", interpreter] + words } ?? words, keepsErrors: true)
      #expect(process.readLine() == "ready")
      inherited = traces
    }

    deinit { process.end(signal: SIGKILL) }

    func ask(_ line: String) -> String? {
      process.writeLine(line)
      return process.readLine()
    }

    /// Its userfaultfds, and sockets or devices that may have been left in it.
    var traces: [String] {
      (numberedEntries(of: "/proc/\(pid)/fd") ?? []).compactMap { linkTarget("/proc/\(pid)/fd/\($0)") }.filter {
        ($0.contains("userfaultfd") || $0.hasPrefix("socket:")) && !inherited.contains($0)
      }
    }
  }

  private static func request(_ pid: Int32, _ more: [String: JSONValue] = [:]) -> [String: JSONValue] {
    ["op": "attach", "pid": .integer(Int64(pid)), "tenant": "it"].merging(more) { $1 }
  }

  private static func command(_ op: String) -> [String: JSONValue] {
    ["op": .string(op), "tenant": "it", "wait": true]
  }

  /// Out, changed, and back.
  private func expectServed(_ stranger: Stranger, _ client: Client) throws {
    for op in ["enable", "trim", "out"] { _ = try client.ask(Self.command(op)) }
    #expect(stranger.ask("write") == "0")
    #expect(stranger.ask("check") == "0")
    _ = try client.ask(Self.command("enable"))
    #expect(stranger.ask("check") == "0")
    _ = try client.ask(Self.command("out"))
    _ = try client.ask(Self.command("unregister"))
    #expect(stranger.traces == [])
    #expect(stranger.ask("check") == "0")
  }

  @Test(arguments: [[], ["spin"], ["filter"]])
  func `a process is attached to and left, whatever it is at`(_ options: [String]) throws {
    let daemon = try Daemon()
    let stranger = try Stranger(options)
    let client = try daemon.client()
    let trial = try client.ask(Self.request(stranger.pid, ["dry_run": true]))
    #expect(trial["regions"]?.elements?.map { $0["name"] } == ["guest-ram"] && stranger.traces == [])
    #expect(try client.list().isEmpty)
    for _ in 0..<2 {
      let reply = try client.ask(Self.request(stranger.pid))
      #expect(reply["size"] == .int(24 << 20) && reply["held_us"]?.int ?? 0 > 0)
      #expect(stranger.traces == ["anon_inode:[userfaultfd]"])
      #expect(code(try client.exchange(Self.request(stranger.pid, ["tenant": "again"]))) == "invalid-request")
      #expect(try client.list().first?["attached"] == true)
      try expectServed(stranger, client)
    }
  }

  @Test func `one that may make no userfaultfd itself is handed the device`() throws {
    // 65534 has no privilege; where everybody may make one, nothing is handed over, and that is right, too.
    let daemon = try Daemon()
    let stranger = try Stranger(user: 65534)
    let client = try daemon.client()
    _ = try client.ask(Self.request(stranger.pid))
    try expectServed(stranger, client)
  }

  @Test func `one that is stopped stays so`() throws {
    let daemon = try Daemon()
    let stranger = try Stranger()
    kill(stranger.pid, SIGSTOP)
    try eventually("it is stopped") { try ProcessTask.all(of: stranger.pid).allSatisfy(\.isStopped) }
    let client = try daemon.client()
    _ = try client.ask(Self.request(stranger.pid))
    _ = try client.ask(Self.command("enable"))
    #expect(ProcessStatus(pid: stranger.pid)["State"]?.hasPrefix("T") == true)
    _ = try client.ask(Self.command("unregister"))
    try eventually("it is stopped again") { ProcessStatus(pid: stranger.pid)["State"]?.hasPrefix("T") == true }
    kill(stranger.pid, SIGCONT)
    #expect(stranger.ask("check") == "0" && stranger.traces == [])
  }

  @Test func `what stands in the way is told, and nothing is changed`() throws {
    let daemon = try Daemon()
    let client = try daemon.client()
    func refusal(_ request: [String: JSONValue]) throws -> String {
      let reply = try client.exchange(request)
      return "\(code(reply) ?? "none"): \(reply["error"]?["message"]?.text ?? "")"
    }
    let stranger = try Stranger()
    let small = try Stranger(["small"])
    let bare = try Stranger(["bare"])
    #expect(try refusal(Self.request(bare.pid)).hasPrefix("unsupported: process \(bare.pid) has no memory that can be"))
    #expect(try refusal(Self.request(bare.pid)).contains("memory-backend-memfd"))
    #expect(try refusal(Self.request(small.pid)).contains("is small; name it to take it"))
    #expect(
      try refusal(Self.request(stranger.pid, ["regions": ["other"]])).hasPrefix("invalid-region: regions: \"other\""))
    #expect(try refusal(Self.request(-1)).hasPrefix("invalid-request: pid: -1"))
    #expect(try refusal(Self.request(stranger.pid, ["freeze": "caller"])).hasPrefix("invalid-request: freeze"))
    #expect(try refusal(Self.request(stranger.pid, ["qmp": "relative"])).contains("an absolute path is right"))
    #expect(try refusal(Self.request(stranger.pid, ["qmp": "/q", "freeze": "live"])).contains("qmp: goes with"))
    #expect(try refusal(Self.request(stranger.pid, ["qmp": "/nowhere"])).contains("no socket at /nowhere"))
    let other = "\(daemon.directory)/monitor"
    let listener = Descriptor(owning: socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0))
    defer { unlink(other) }
    try withAddress(other, "listening") { bind(listener.raw, $0, $1) }
    #expect(listen(listener.raw, 1) == 0)
    for (greeting, complaint) in [
      ("", "no greeting comes"), ("HTTP/1.1 200\n", "no QEMU's QMP monitor"),
      ("{\"QMP\": {}}\n", "is the monitor of process \(getpid()), not"),
    ] {
      try Thread.runDetached(name: "greet") {
        let connection = Descriptor(owning: accept(listener.raw, __SOCKADDR_ARG(__sockaddr__: nil), nil))
        _ = greeting.withCString { write(connection.raw, $0, strlen($0)) }
        var byte: UInt8 = 0
        while read(connection.raw, &byte, 1) > 0 {}
      }
      let answer = try refusal(Self.request(stranger.pid, ["qmp": .string(other)]))
      #expect(answer.contains(complaint), "\(answer)")
    }
    #expect(try refusal(Self.request(stranger.pid, ["tenant": "bad name"])).hasPrefix("invalid-request: tenant"))
    #expect(try refusal(Self.request(daemon.process.handle.pid)).hasPrefix("unsupported"))
    do {
      let held = try Tracee(stranger.pid)
      let message = try refusal(Self.request(stranger.pid))
      #expect(message.hasPrefix("permission-denied: process \(stranger.pid) is being traced by "), "\(message)")
      #expect(held.heldNanoseconds > 0)
    }
    for untouched in [stranger, small, bare] {
      #expect(untouched.ask("check") == "0")
      // What was refused after the userfaultfd was made is undone a little later.
      try eventually("nothing is left in it") { untouched.traces == [] }
    }
    #expect(try client.list().isEmpty)
    _ = try client.ask(Self.request(small.pid, ["regions": ["guest-ram"]]))
    #expect(try client.ask(Self.command("unregister"))["ok"] == true)
  }

  @Test func `it survives workers, and the daemon's end leaves no trace`() throws {
    let daemon = try Daemon()
    let stranger = try Stranger()
    _ = try daemon.client().ask(Self.request(stranger.pid))
    for op in ["enable", "out", "status"] {
      _ = try daemon.client().ask(Self.command(op))
      kill(try daemon.worker, SIGKILL)
    }
    #expect(stranger.ask("check") == "0")
    #expect(try daemon.status("it")["attached"] == true)
    #expect(daemon.process.end(signal: SIGHUP) == 0)
    #expect(stranger.traces == [])
    #expect(stranger.ask("check") == "0")
  }

  @Test func `requests to attach outlive workers, and are carried out once`() throws {
    let daemon = try Daemon()
    let stranger = try Stranger()
    let client = try daemon.client()
    for round in 0..<20 {
      let asking = try Asking(client, Self.request(stranger.pid, ["id": .int(round)]))
      SystemClock().sleep(microseconds: UInt32(round * 700))
      kill(try daemon.worker, SIGKILL)
      let reply = try #require(asking.answer())
      #expect(reply["ok"] == true && reply["id"] == .int(round), "\(reply)")
      #expect(try client.list().count == 1)
      _ = try client.ask(Self.command("enable"))
      #expect(stranger.ask("check") == "0")
      _ = try client.ask(Self.command("unregister"))
    }
    // An assistant whose worker has died undoes what it has done.
    try eventually("nothing is left in it") { stranger.traces == [] }
  }

  @Test func `who dies while being attached to is a clear error, and leaks nothing`() throws {
    let daemon = try Daemon()
    let client = try daemon.client()
    let before = try daemon.settledDescriptorCount()
    for round in 0..<12 {
      let stranger = try Stranger()
      let asking = try Asking(client, Self.request(stranger.pid))
      SystemClock().sleep(microseconds: UInt32(round * 500))
      kill(stranger.pid, SIGKILL)
      let reply = try #require(asking.answer())
      #expect(reply["ok"] == true || code(reply) != "internal", "\(reply)")
      stranger.process.end()
      try eventually("it is forgotten") { try client.list().isEmpty }
    }
    try eventually("its descriptors are closed") { daemon.descriptorCount <= before }
  }
}
