import Glibc
import Testing

@testable import Adapters
@testable import App

/// The daemon's own deaths, on the real kernel.
@Suite(.enabled(if: hasUserfaultfd), .serialized)
struct TakeOverTests {
  private static let pages = 1500

  private func request(_ op: String, id: Int) -> [String: JSONValue] {
    ["op": .string(op), "tenant": .string(TenantProcess.name), "wait": true, "id": .int(id)]
  }

  @Test(arguments: [false, true])
  func `a worker that is killed in the middle of a command loses no page and no request`(byItsAttendant: Bool) throws {
    let daemon = try Daemon()
    let tenant = try TenantProcess(daemon, pages: Self.pages)
    let client = try daemon.client()
    let answers = ["enable": "Pending", "out": "Active", "trim": "Pending", "disable": "Ready"]
    // (Who dies young again and again is followed later and later.)
    for round in 0..<(byItsAttendant ? 12 : 40) {
      let op = ["enable", "out", "enable", "trim", "disable"][round % 5]
      let asking = try Asking(client, request(op, id: round))
      // From before the request is read to after its end.
      SystemClock().sleep(microseconds: UInt32(round * (byItsAttendant ? 1500 : 400)))
      // Without its attendant a worker ends, and another begins.
      kill(try byItsAttendant ? daemon.attendant : daemon.worker, SIGKILL)
      let reply = try #require(asking.answer(), "\(op) is not answered")
      #expect(reply["ok"]?.isTrue == true && reply["id"] == .int(round), "\(op): \(reply)")
      #expect(reply["state"]?.text == answers[op], "\(op): \(reply)")
      if round % 7 == 0 { #expect(try tenant.mismatches() == 0, "after \(op), round \(round)") }
    }
    // Exactly one answer each: the next one on the connection is that of the next request.
    #expect(try client.exchange(request("status", id: 1000))["id"] == .int(1000))
    #expect(try tenant.mismatches() == 0)
  }

  @Test func `who dies together with the worker is forgotten by the next`() throws {
    let daemon = try Daemon()
    let tenant = try TenantProcess(daemon, pages: Self.pages)
    _ = try daemon.client().ask(request("enable", id: 1))
    let worker = try daemon.worker
    kill(worker, SIGSTOP)
    tenant.process.end(signal: SIGKILL)
    kill(worker, SIGKILL)
    try eventually("the tenant is forgotten") { try daemon.client().list().isEmpty }
  }

  @Test func `a keeper that is killed is replaced by its worker's attendant, and then by another`() throws {
    let directory = try Directory.makeTemporary()
    defer {
      for path in ["socket", "swap"] where unlink("\(directory)/\(path)") != 0 { rmdir("\(directory)/\(path)") }
      rmdir(directory)
    }
    let first = try ChildProcess(
      executable: program,
      arguments: [
        "serve", "--log-level", "error", "--keep-free", "0", "--socket", "\(directory)/socket", "--swap-dir",
        "\(directory)/swap",
      ], keepsErrors: false)
    try eventually("the daemon listens") { (try? Client(path: "\(directory)/socket")) != nil }
    let tenant = try OwnTenant(socketPath: "\(directory)/socket")
    _ = try tenant.ask("enable")
    var keeper = first.handle.pid
    for _ in 0..<3 {
      let worker = try ProcessHandle(pid: try #require(children(of: keeper, running: "worker").first))
      let attendant = try #require(children(of: keeper, running: "attendant").first)
      kill(keeper, SIGKILL)
      // The same process becomes the keeper, and starts a worker.
      try eventually("the attendant has become the keeper") { !children(of: attendant, running: "worker").isEmpty }
      #expect(!worker.isAlive)
      keeper = attendant
      let page = tenant.memory.pageCount / 2
      #expect(tenant.memory.mismatches(in: page..<(page + 3)) == 0)
      #expect(try tenant.ask("status")["state"]?.text == "Pending")
    }
    _ = try tenant.ask("unregister")
    #expect(tenant.memory.mismatches(in: 0..<tenant.memory.pageCount) == 0)
    kill(keeper, SIGTERM)
    try eventually("the socket is gone") { access("\(directory)/socket", F_OK) != 0 }
    first.end()
  }

  @Test(arguments: [false, true])
  func `keeper and attendant that are killed in one blow leave the worker serving`(keeperFirst: Bool) throws {
    let directory = try Directory.makeTemporary()
    defer { _ = system("rm -rf '\(directory)'") }
    // Its standard descriptors are closed, whose numbers others must not get.
    let words = [
      "serve", "--log-level", "error", "--keep-free", "0", "--socket", "\(directory)/socket", "--swap-dir",
      "\(directory)/swap",
    ]
    let daemon = try ChildProcess(
      executable: "/bin/sh", arguments: ["-c", #"exec "$0" "$@" 0<&- 2>&-"#, program] + words, keepsErrors: false)
    try eventually("the daemon listens") { (try? Client(path: "\(directory)/socket")) != nil }
    let tenant = try OwnTenant(socketPath: "\(directory)/socket")
    _ = try tenant.ask("enable")
    let keeper = daemon.handle.pid
    let worker = try ProcessHandle(pid: try #require(children(of: keeper, running: "worker").first))
    for standard in [0, 2] { #expect(linkTarget("/proc/\(worker.pid)/fd/\(standard)") == "/dev/null") }
    let attendants = try children(of: keeper, running: "attendant").map { try ProcessHandle(pid: $0) }
    for pid in keeperFirst ? [keeper] + attendants.map(\.pid) : attendants.map(\.pid) + [keeper] {
      kill(pid, SIGKILL)
    }
    try eventually("they are dead") { !daemon.handle.isAlive && attendants.allSatisfy { !$0.isAlive } }
    #expect(tenant.memory.mismatches(in: 0..<3) == 0)
    #expect(try tenant.ask("status")["state"]?.text == "Pending")
    kill(worker.pid, SIGTERM)
    try eventually("everything is back") { !worker.isAlive }
    #expect(tenant.memory.mismatches(in: 0..<tenant.memory.pageCount) == 0)
  }

  /// Whether it is alive, and has that name.
  private func sharesDescriptors(_ pid: Int32) -> Bool {
    let stat = readText("/proc/\(pid)/stat") ?? ""
    return stat.contains("(swap-monitor-fd)") && !stat.contains("(swap-monitor-fd) Z")
  }

  @Test func `who shares a worker's descriptors outlives it until another has come, and not the daemon`() throws {
    let daemon = try Daemon()
    func sharer() throws -> Int32 {
      _ = try daemon.client().list()  // once the keeper knows of it
      var found: Int32?
      try eventually("somebody shares the worker's descriptors") {
        found = children(of: try daemon.worker).first { sharesDescriptors($0) }
        return found != nil
      }
      return try #require(found)
    }
    let (worker, first) = (try daemon.worker, try sharer())
    kill(worker, SIGKILL)
    try eventually("another has taken its place") { !sharesDescriptors(first) }
    let last = try sharer()
    daemon.process.end(signal: SIGKILL)  // the worker ends with it
    try eventually("nothing is left") { !sharesDescriptors(last) }
  }

  @Test func `upgrade replaces the worker by the program on disk, unless that does not know the tables`() throws {
    let directory = try Directory.makeTemporary()
    let copy = "\(directory)/swap-monitor"
    #expect(system("cp '\(program)' '\(copy)'") == 0)
    defer {
      unlink(copy)
      rmdir(directory)
    }
    let daemon = try Daemon(executable: copy)
    let tenant = try TenantProcess(daemon, pages: Self.pages)
    let client = try daemon.client()
    _ = try client.ask(request("enable", id: 1))
    let before = try daemon.worker
    // What is installed over it must not be written into the running program.
    #expect(system("cp '\(program)' '\(copy).new' && mv '\(copy).new' '\(copy)'") == 0)
    let reply = try client.ask(["op": "upgrade", "id": 2])
    #expect(reply["id"] == 2 && reply["version"]?.text == Defaults.version)
    let after = try daemon.worker
    #expect(after != before)
    #expect(try client.ask(request("out", id: 3))["state"]?.text == "Active")

    #expect(
      system(
        "printf '#!/bin/sh\\necho 999\\n' > '\(copy).new' && chmod 755 '\(copy).new' && mv '\(copy).new' '\(copy)'")
        == 0)
    let refusal = try client.exchange(["op": "upgrade", "id": 4])
    #expect(refusal["error"]?["code"]?.text == "unsupported", "\(refusal)")
    #expect(try daemon.worker == after)
    #expect(try tenant.mismatches() == 0)
  }
}
