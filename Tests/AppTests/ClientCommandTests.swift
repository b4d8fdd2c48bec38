import Glibc
import Testing

@testable import Adapters
@testable import App

/// The command line before a real daemon, as scripts see it: no terminal anywhere.
struct ClientCommandTests {
  private func run(_ words: [String], _ socketPath: String) throws -> (text: String, code: Int32?) {
    try output([program] + words, environment: ["SWAP_MONITOR_SOCKET=\(socketPath)"])
  }

  private func start(_ words: [String], _ socketPath: String) throws -> ChildProcess {
    try merged([program] + words, environment: ["SWAP_MONITOR_SOCKET=\(socketPath)"])
  }

  private func json(_ words: [String], _ socketPath: String) throws -> (reply: JSONValue, code: Int32?) {
    let (text, code) = try run(words + ["--json"], socketPath)
    return (try #require(JSONValue.parse(Array(text.utf8)), "\(text)"), code)
  }

  @Test(
    arguments: [
      ([], "usage", 2), (["fly"], "usage", 2), (["enable"], "usage", 2), (["status", "--interval", "0"], "usage", 2),
      (["status", "--interval", "nan"], "usage", 2), (["unregister", "a", "--no-wait"], "usage", 2),
      (["demo", "--memory", "1K"], "usage", 2), (["list"], "no-daemon", 1), (["status", "--watch"], "no-daemon", 1),
      (["disable", "a", "--slow-file-cleanup"], "no-daemon", 1),
    ] as [([String], String, Int32)])
  func `with --json an error is JSON too`(_ words: [String], _ expected: String, _ exitCode: Int32) throws {
    let (reply, code) = try json(words, "/nonexistent/socket")
    #expect(reply["ok"] == false && reply["error"]?["code"]?.text == expected, "\(reply)")
    #expect(reply["error"]?["message"]?.text?.isEmpty == false)
    #expect(code == exitCode)
  }

  @Test func `each command helps with -h too`() throws {
    for command in Command.all {
      let (text, code) = try run([command.name, "-h"], "")
      #expect(text == command.help + "\n" && code == 0, "\(command.name)")
    }
  }

  @Test func `options before the command are told where they belong`() throws {
    let (text, code) = try run(["--socket", "/x", "status", "vm1"], "")
    #expect(text.contains("options come after the command: swap-monitor status --socket /x vm1\n") && code == 2)
    #expect(text.contains("'swap-monitor status --help'"))
    #expect(try json(["--socket", "/x", "list"], "").reply["error"]?["code"] == "usage")
  }

  @Test(arguments: ["demo", "torture", "bench"])
  func `more memory than there is is refused, and it is told how much there is`(_ command: String) throws {
    let gibibytes = try #require(Machine.memory("MemTotal:")) >> 30 + 1
    let (reply, code) = try json([command, "--memory", "\(gibibytes)G"], "")
    #expect(reply["error"]?["message"]?.text?.contains("available on this machine") == true && code == 1, "\(reply)")
  }

  @Test(arguments: [["--freeze", "foo"], ["--freeze", "caller"], ["--name", "a b"], ["--name", ""]])
  func `what no daemon would take is a wrong use of attach`(_ words: [String]) throws {
    let (reply, code) = try json(["attach", "1"] + words, "/nonexistent/socket")
    #expect(reply["error"]?["code"] == "usage" && code == 2, "\(reply)")
  }

  @Test func `the version as JSON`() throws {
    #expect(try json(["--version"], "").reply == ["ok": true, "version": .string(Defaults.version)])
  }

  @Test(.enabled(if: hasUserfaultfd)) func `every command, for people and as JSON`() throws {
    let daemon = try Daemon()
    let tenant = try TenantProcess(daemon, pages: 1024)
    let path = daemon.socketPath
    #expect(try run(["list"], path).text.contains("demo    Ready  4.00 MiB  \(tenant.process.handle.pid)\n"))
    #expect(try run(["trim", "demo"], path).text.contains("'swap-monitor enable demo' first"))
    #expect(try json(["trim", "demo"], path).reply["error"]?["state"] == "Ready")
    for name in ["enable", "trim", "out"] {
      let (reply, exitCode) = try json([name, "demo"], path)
      #expect(reply["tenant"] == "demo" && reply["metrics"] != nil && exitCode == 0, "\(name): \(reply)")
    }
    #expect(try run(["status"], path).text.contains("\ndemo    Active  4.00 MiB  "))
    #expect(try run(["status", "demo"], path).text.hasPrefix("demo: Active\n  in the guest"))
    #expect(try json(["status"], path).reply["tenants"]?.elements?.count == 1)
    #expect(try json(["list"], path).reply["tenants"]?.elements?.first?["state"] == "Active")
    let disabled = try run(["disable", "demo", "--slow-file-cleanup"], path)
    #expect(disabled.text.hasPrefix("demo: Ready\n") && disabled.code == 0, "no progress where there is no terminal")
    let detached = try run(["detach", "demo"], path)
    #expect(detached.code == 1 && detached.text.contains("'swap-monitor unregister demo'"), "\(detached.text)")
    #expect(try run(["unregister", "demo"], path).text == "demo: everything is back, and it is forgotten\n")
    #expect(try run(["list"], path).text == "no tenants\n")
    #expect(try tenant.mismatches() == 0)
  }

  @Test(.enabled(if: hasUserfaultfd)) func `an unknown tenant is told which there are`() throws {
    let daemon = try Daemon()
    #expect(try run(["enable", "vm1"], daemon.socketPath).text.contains("none has registered"))
    let tenant = try OwnTenant(daemon, name: "web-1")
    for command in ["enable", "trim", "out", "disable", "unregister", "status"] {
      let (text, exitCode) = try run([command, "web-2"], daemon.socketPath)
      #expect(text == #"swap-monitor: there is no tenant "web-2"; did you mean "web-1"? Tenants: web-1"# + "\n")
      #expect(exitCode == 1)
    }
    for command in ["status", "disable"] {
      let reply = try json([command, "web-2"], daemon.socketPath).reply
      #expect(code(reply) == "no-such-tenant" && reply["tenants"] == ["web-1"], "\(reply)")
    }
    _ = try tenant.ask("unregister")
  }

  @Test(.enabled(if: hasUserfaultfd)) func `who can accept a risk is told how`() throws {
    let daemon = try Daemon()
    let tenant = try TenantProcess(daemon, pages: 64)
    // A mapping that nobody has announced: ours.
    let pid = tenant.process.handle.pid
    let path = try #require(
      (3..<64).map { "/proc/\(pid)/fd/\($0)" }.first { linkTarget($0)?.hasPrefix("/memfd:") == true })
    let file = Descriptor(owning: open(path, O_RDWR))
    let mapping = try #require(mmap(nil, 4096, PROT_READ, MAP_SHARED, file.raw, 0))
    defer { munmap(mapping, 4096) }
    try #require(mapping != MAP_FAILED)
    _ = mapping.load(as: UInt8.self)
    let refused = try run(["enable", "demo"], daemon.socketPath)
    #expect(refused.code == 1 && refused.text.hasSuffix("that is --accept-strange-mappings\n"), "\(refused.text)")
    #expect(try run(["enable", "--help"], daemon.socketPath).text.contains("--accept-strange-mappings"))
    #expect(try run(["enable", "demo", "--accept-strange-mappings"], daemon.socketPath).code == 0)
    #expect(try run(["disable", "demo"], daemon.socketPath).code == 0)
    #expect(try tenant.mismatches() == 0)
  }

  @Test(.enabled(if: hasUserfaultfd)) func `the watch looks again, and ends with what it watches`() throws {
    let daemon = try Daemon()
    let tenant = try OwnTenant(daemon, name: "vm1")
    let interval = ["--interval", "0.1"]
    let all = try start(["status"] + interval, daemon.socketPath)
    let stopped = try start(["status", "vm1", "--json"] + interval, daemon.socketPath)
    let one = try start(["status", "vm1"] + interval, daemon.socketPath)
    for _ in 0..<3 {
      #expect(stopped.readLine().map { JSONValue.parse(Array($0.utf8)) }??["tenant"] == "vm1")
      _ = all.readLine()  // the time
      #expect(all.readLine()?.hasPrefix("TENANT") == true)
      #expect(all.readLine()?.hasPrefix("vm1") == true)
      #expect(all.readLine() == "")
    }
    #expect(stopped.end(signal: SIGTERM) == 0)
    while let line = one.readLine(), !line.hasPrefix("  faults a second") {}
    _ = try tenant.ask("unregister")
    var last = ""
    while let line = one.readLine() { last = line }
    #expect(last.hasPrefix("swap-monitor: the tenant vm1 is gone"), "\(last)")
    #expect(one.end() == 1)
    daemon.process.end(signal: SIGTERM)
    while let line = all.readLine() { last = line }
    #expect(last.hasPrefix("swap-monitor: the daemon is gone"), "\(last)")
    #expect(all.end() == 1)
  }
}
