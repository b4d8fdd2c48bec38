import Glibc
import Testing

@testable import Adapters
@testable import App

/// The real worker's sandbox. (All other tests of the daemon run with it too.)
@Suite(.enabled(if: hasUserfaultfd))
struct SandboxedDaemonTests {
  private func status(_ pid: Int32) -> (String) -> String? { { ProcessStatus(pid: pid)[$0] } }

  @Test func `a worker has no rights left, and its attendant has the daemon's`() throws {
    let daemon = try Daemon()
    let (worker, attendant) = (status(try daemon.worker), status(try daemon.attendant))
    try eventually("the worker is in its sandbox") { worker("Seccomp") == "2" }
    #expect(worker("NoNewPrivs") == "1")
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
      #expect(worker(set)?.allSatisfy { $0 == "0" } == true, "\(set)")
    }
    let own = status(getpid())
    #expect(attendant("NoNewPrivs") == own("NoNewPrivs") && attendant("CapEff") == own("CapEff"))
    #expect(attendant("Seccomp") == own("Seccomp"))
    // Its threads too, those of a tenant among them.
    let tenant = try OwnTenant(daemon)
    let pid = try daemon.worker
    let tasks = try ProcessFiles(pid: pid).entries("task")
    #expect(tasks.count > 4)
    for task in tasks {
      let text = readText("/proc/\(pid)/task/\(task)/status") ?? ""
      #expect(text.contains("Seccomp:\t2") && text.contains("CapEff:\t0000000000000000"), "\(text)")
    }
    _ = try tenant.ask("unregister")
  }

  @Test func `with --no-sandbox it keeps them`() throws {
    let daemon = try Daemon(["--no-sandbox"])
    let tenant = try OwnTenant(daemon)
    _ = try tenant.ask("enable")
    #expect(ProcessStatus(pid: try daemon.worker)["CapEff"] == ProcessStatus(pid: getpid())["CapEff"])
    #expect(ProcessStatus(pid: try daemon.worker)["Seccomp"] == ProcessStatus(pid: getpid())["Seccomp"])
    #expect(tenant.memory.mismatches(in: 0..<tenant.memory.pageCount) == 0)
  }

  @Test func `guest memory is in no core dump, and the swap file is for nobody else`() throws {
    let daemon = try Daemon()
    let tenant = try OwnTenant(daemon)
    _ = try tenant.ask("enable")
    let worker = try daemon.worker
    let parts = (readText("/proc/\(worker)/smaps", limit: 16 << 20) ?? "").split(separator: "\n")
    var (name, checked) = (Substring(), 0)
    for line in parts {
      if ProcessMaps.parse(line) != nil { name = line }
      guard line.hasPrefix("VmFlags:"), name.contains("/memfd:swap-monitor") else { continue }
      #expect(line.contains(" dd"), "\(name) would be dumped")
      checked += 1
    }
    #expect(checked >= 2, "staging and tables")
    _ = try tenant.ask("out")
    let links = try ProcessFiles(pid: worker).entries("fd")
    let swapFiles = links.filter {
      linkTarget("/proc/\(worker)/fd/\($0)")?.contains("\(daemon.directory)/swap/") == true
    }
    #expect(!swapFiles.isEmpty)
    for number in swapFiles {
      var status = stat()
      #expect(stat("/proc/\(worker)/fd/\(number)", &status) == 0)
      #expect(status.st_mode & 0o777 == 0 && status.st_nlink == 0, "no name, and no permission for whoever finds it")
    }
    var directory = stat()
    #expect(stat("\(daemon.directory)/swap", &directory) == 0 && directory.st_mode & 0o777 == 0o700)
  }

  @Test func `check-sandbox shows what is refused`() throws {
    let (code, output) = try run(["check-sandbox", "--json"])
    let reply = try #require(JSONValue.parse(Array(output.utf8)))
    let trials = try #require(reply["trials"]?.elements)
    #expect(trials.count > 15)
    if PathRules.version != nil {
      #expect(code == 0 && reply["ok"] == true && trials.allSatisfy { $0["ok"] == true }, "\(output)")
    } else {
      #expect(code == 1)
    }
  }

  private func run(_ words: [String]) throws -> (code: Int32?, output: String) {
    let child = try ChildProcess(executable: program, arguments: words, keepsErrors: true)
    var output = ""
    while let line = child.readLine() { output += line + "\n" }
    return (child.end(), output)
  }
}
