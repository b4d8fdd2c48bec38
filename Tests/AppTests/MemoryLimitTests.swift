import Glibc
import Testing

@testable import Adapters
@testable import App
@testable import Domain

/// Limits of staging memory, of swap files, and of control groups.
@Suite(.enabled(if: hasUserfaultfd), .serialized)
struct MemoryLimitTests {
  private static let pages = 4096

  private func metric(_ reply: JSONValue, _ name: String) -> Int { reply["metrics"]?[name]?.int ?? -1 }

  private func ask(_ op: String, _ client: Client) throws -> JSONValue {
    try client.ask(["op": .string(op), "tenant": .string(TenantProcess.name), "wait": true])
  }

  @Test func `staging memory stays within its limit, and out moves what enable has left`() throws {
    let daemon = try Daemon(["--staging-limit", "4M"])
    let tenant = try TenantProcess(daemon, pages: Self.pages)
    let client = try daemon.client()
    for round in 1...2 {
      let enabled = try ask("enable", client)
      #expect(enabled["partial"] == true && enabled["state"] == "Pending", "round \(round): \(enabled)")
      let warning = enabled["warnings"]?.elements?.first?.text ?? ""
      #expect(warning.contains("--staging-limit"), "\(warning)")
      #expect((512...1024).contains(metric(enabled, "staging_pages")))
      #expect(metric(enabled, "resident_pages") == Self.pages - metric(enabled, "staging_pages"))
      tenant.process.writeLine("hot")
      let out = try ask("out", client)
      #expect(out["state"] == "Active" && out["partial"] == nil && out["warnings"] == nil, "\(out)")
      #expect(metric(out, "staging_pages") == 0)
      #expect(metric(out, "swap_pages") > Self.pages / 2)
      tenant.process.writeLine("end")
      _ = try tenant.answer("max")
      #expect(try tenant.mismatches() == 0)
    }
    #expect(try ask("disable", client)["state"] == "Ready")
    #expect(try tenant.mismatches() == 0)
  }

  @Test func `under caller the rest waits for the next enable`() throws {
    let daemon = try Daemon(["--staging-limit", "2M"])
    let own = try OwnTenant(daemon, pages: 1024)
    var reply = try own.ask("enable")
    #expect(reply["partial"] == true && metric(reply, "staging_pages") == 512, "\(reply)")
    reply = try own.ask("out")
    #expect(reply["state"] == "Active" && reply["partial"] == true && metric(reply, "resident_pages") == 512)
    reply = try own.ask("enable")
    #expect(reply["partial"] == nil && metric(reply, "staging_pages") == 512)
    reply = try own.ask("out")
    #expect(metric(reply, "swap_pages") == 1024)
    #expect(own.memory.mismatches(in: 0..<1024) == 0)
    _ = try own.ask("disable")
    #expect(own.memory.mismatches(in: 0..<1024) == 0)
  }

  @Test func `the staging limit is of all tenants together, and copies count until they are given back`() throws {
    let daemon = try Daemon(["--staging-limit", "4M"])
    let (one, other) = (
      try OwnTenant(daemon, name: "one", pages: 1024), try OwnTenant(daemon, name: "other", pages: 512)
    )
    #expect(try one.ask("enable")["partial"] == nil)
    var reply = try other.ask("enable")
    #expect(reply["partial"] == true && metric(reply, "staging_pages") == 0)
    #expect(other.memory.mismatches(in: 0..<512) == 0)
    _ = try one.ask("disable")
    reply = try other.ask("enable")
    #expect(reply["partial"] == nil && metric(reply, "staging_pages") == 512)
    // What has come back makes room soon.
    #expect(other.memory.mismatches(in: 0..<512) == 0)
    try eventually("there is room") { try one.ask("enable")["partial"] == nil }
    #expect(one.memory.mismatches(in: 0..<1024) == 0)
  }

  @Test func `a swap file's limit is like a full disk, and freed slots give room again`() throws {
    let daemon = try Daemon(["--swap-limit", "2M"])
    let own = try OwnTenant(daemon, pages: 1024)
    _ = try own.ask("enable")
    let refusal = try own.client.exchange(["op": "out", "wait": true])
    #expect(code(refusal) == "no-space" && refusal["error"]?["message"]?.text?.contains("--swap-limit") == true)
    var reply = try daemon.status(own.name)
    #expect(reply["state"] == "Failed" && reply["failure"]?["code"] == "no-space")
    #expect(metric(reply, "swap_pages") == 512 && metric(reply, "staging_pages") == 512)
    // What is touched keeps its slot for trim, but not where others need it.
    #expect(own.memory.mismatches(in: 0..<1024) == 0)
    _ = try own.ask("enable")
    #expect(code(try own.client.exchange(["op": "out", "wait": true])) == "no-space")
    reply = try daemon.status(own.name)
    #expect(metric(reply, "swap_pages") == 512)
    let start = try #require(UnsafeMutableRawPointer(bitPattern: UInt(own.memory.address)))
    #expect(madvise(start, own.geometry.bytes(inPages: 512), MADV_REMOVE) == 0)
    // madvise returns when its event is read, an instant before it is applied.
    try eventually("the removal is known") { metric(try daemon.status(own.name), "swap_pages") < 512 }
    reply = try own.ask("out")
    #expect(reply["state"] == "Active" && metric(reply, "swap_pages") == 512)
    #expect(own.memory.mismatches(in: 512..<1024) == 0)
    _ = try own.ask("disable")
    #expect(own.memory.mismatches(in: 512..<1024) == 0)
  }

  @Test func `all swap files share a limit`() throws {
    let daemon = try Daemon(["--swap-total-limit", "4M"])
    let (one, other) = (
      try OwnTenant(daemon, name: "one", pages: 768), try OwnTenant(daemon, name: "other", pages: 768)
    )
    for tenant in [one, other] { _ = try tenant.ask("enable") }
    #expect(try one.ask("out")["state"] == "Active")
    let refusal = try other.client.exchange(["op": "out", "wait": true])
    #expect(code(refusal) == "no-space" && refusal["error"]?["message"]?.text?.contains("--swap-total-limit") == true)
    #expect(other.memory.mismatches(in: 0..<768) == 0)
    _ = try one.ask("disable")
    #expect(one.memory.mismatches(in: 0..<768) == 0)
    _ = try other.ask("enable")
    #expect(try other.ask("out")["state"] == "Active")
    #expect(other.memory.mismatches(in: 0..<768) == 0)
  }

  @Test(arguments: [["--staging-limit", "4K"], ["--swap-limit", "0"], ["--swap-total-limit", "much"]])
  func `a limit that nothing fits into is a usage error`(_ words: [String]) throws {
    #expect(try ChildProcess(executable: program, arguments: ["serve"] + words, keepsErrors: false).end() == 2)
  }
}

/// A control group with a memory limit, where this machine allows one to be made.
final class LimitedGroup {
  static let isPossible: Bool = {
    do {
      _ = try LimitedGroup("swap-monitor-test-probe", bytes: 1 << 30)
      return true
    } catch {
      Console.writeError("\n*** SKIPPED: no control group with a memory limit can be made here (\(error)) ***\n")
      return false
    }
  }()

  private let path: String
  private let limitFile: String

  init(_ name: String, bytes: Int) throws {
    let isFirst = access("/sys/fs/cgroup/memory/memory.limit_in_bytes", F_OK) == 0
    path = "/sys/fs/cgroup/\(isFirst ? "memory/" : "")\(name)-\(getpid())"
    limitFile = isFirst ? "memory.limit_in_bytes" : "memory.max"
    guard mkdir(path, 0o755) == 0 else { throw Complaint("mkdir \(path): \(errorText(errno))") }
    try limit(bytes)
  }

  deinit {
    for _ in 0..<200 where rmdir(path) != 0 && errno == EBUSY { usleep(10_000) }
  }

  func limit(_ bytes: Int) throws { try write("\(bytes)", to: limitFile) }
  /// For a shell, which joins and becomes the program.
  func joining(_ words: [String]) -> [String] {
    ["-c", #"echo $$ > "$0" && exec "$@""#, "\(path)/cgroup.procs"] + words
  }

  private func write(_ text: String, to name: String) throws {
    let file = Descriptor(owning: open("\(path)/\(name)", O_WRONLY | O_CLOEXEC))
    let count = Array(text.utf8).withUnsafeBytes { Glibc.write(file.raw, $0.baseAddress, $0.count) }
    guard count == text.utf8.count else { throw Complaint("\(path)/\(name): \(errorText(errno))") }
  }
}

/// Over such a limit shared memory is no error number: the OOM killer comes.
@Suite(.enabled(if: hasUserfaultfd && isRoot && LimitedGroup.isPossible), .serialized)
struct ControlGroupTests {
  private static let pages = 16_384

  private func metric(_ reply: JSONValue, _ name: String) -> Int { reply["metrics"]?[name]?.int ?? -1 }

  private func ask(_ op: String, _ client: Client, waits: Bool = true) throws -> JSONValue {
    try client.ask(["op": .string(op), "tenant": .string(TenantProcess.name), "wait": .bool(waits)])
  }

  @Test func `enable of more than the daemon's group may have ends early, and out moves the rest`() throws {
    let group = try LimitedGroup("swap-monitor-test-daemon", bytes: 56 << 20)
    let daemon = try Daemon(group: group)
    let tenant = try TenantProcess(daemon, pages: Self.pages)
    let client = try daemon.client()
    var reply = try ask("enable", client)
    #expect(reply["partial"] == true && reply["state"] == "Pending", "\(reply)")
    #expect(reply["warnings"]?.elements?.first?.text?.contains("control group") == true)
    #expect((512..<12_288).contains(metric(reply, "staging_pages")), "\(reply)")
    reply = try ask("out", client)
    #expect(reply["state"] == "Active" && reply["partial"] == nil, "\(reply)")
    #expect(metric(reply, "swap_pages") == Self.pages)
    #expect(try tenant.mismatches() == 0)
    #expect(try ask("disable", client)["state"] == "Ready")
    #expect(try tenant.mismatches() == 0)
    #expect(daemon.process.handle.isAlive)
    _ = daemon.process.end(signal: SIGTERM)
  }

  @Test func `disable waits where the tenant's group has no room, says so, and goes on`() throws {
    let daemon = try Daemon()
    let group = try LimitedGroup("swap-monitor-test-tenant", bytes: 1 << 30)
    let tenant = try TenantProcess(daemon, pages: Self.pages, group: group)
    let client = try daemon.client()
    for op in ["enable", "out"] { _ = try ask(op, client) }
    try group.limit(24 << 20)
    _ = try ask("disable", client, waits: false)
    try eventually("disable waits") { try daemon.status(TenantProcess.name)["waiting"] == "memory" }
    var reply = try daemon.status(TenantProcess.name)
    #expect(reply["state"] == "SwapInInProgress" && metric(reply, "swap_pages") > 0, "\(reply)")
    // Another command ends it, and what is back stays back.
    reply = try ask("enable", client)
    #expect(reply["state"] == "Pending" && reply["waiting"] == nil)
    _ = try ask("disable", client, waits: false)
    try eventually("disable waits again") { try daemon.status(TenantProcess.name)["waiting"] == "memory" }
    #expect(tenant.process.handle.isAlive)
    try group.limit(1 << 30)
    reply = try ask("disable", client)
    #expect(reply["state"] == "Ready" && reply["waiting"] == nil)
    #expect(try tenant.mismatches() == 0)
    tenant.process.end(signal: SIGKILL)
  }

  @Test func `the end of the daemon waits for memory too`() throws {
    let daemon = try Daemon()
    let group = try LimitedGroup("swap-monitor-test-end", bytes: 1 << 30)
    let tenant = try TenantProcess(daemon, pages: Self.pages, group: group)
    let client = try daemon.client()
    for op in ["enable", "out"] { _ = try ask(op, client) }
    try group.limit(24 << 20)
    #expect(kill(daemon.process.handle.pid, SIGTERM) == 0)
    try eventually("the end waits") { try daemon.status(TenantProcess.name)["waiting"] == "memory" }
    usleep(300_000)
    #expect(daemon.process.handle.isAlive && tenant.process.handle.isAlive)
    try group.limit(1 << 30)
    #expect(daemon.process.end() == 0)
    #expect(try tenant.mismatches() == 0)
    tenant.process.end(signal: SIGKILL)
  }
}
