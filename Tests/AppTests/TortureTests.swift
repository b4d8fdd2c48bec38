import Glibc
import Testing

@testable import Adapters
@testable import App
@testable import Domain

/// `swap-monitor torture` itself: that it finds nothing where nothing is wrong, and everything else.
@Suite(.enabled(if: hasUserfaultfd), .serialized)
struct TortureTests {
  private func torture(_ options: [String], swapDirectory: String? = nil) throws -> (JSONValue, Int32?) {
    try report(["torture", "--memory", "16M"] + options, swapDirectory: swapDirectory)
  }

  @Test func `the worker is killed, and nothing is lost`() throws {
    let (report, code) = try torture(["--seconds", "4", "--seed", "1"])
    #expect(code == 0, "\(report)")
    #expect(report["lost"] == 0 && report["hung"] == 0 && report["seed"] == 1)
    #expect(report["kills"]?.int ?? 0 > 0 && report["recovery_ms"]?["p50"] != nil)
    #expect(report["increments"]?.int ?? 0 > 10_000 && report["removed_pages"]?.int ?? 0 > 10)
  }

  @Test func `without kills the daemon stays whole`() throws {
    let (report, code) = try torture(["--seconds", "1", "--no-kill"])
    #expect(code == 0 && report["kills"] == 0 && report["lost"] == 0, "\(report)")
  }

  @Test func `live, the worker is killed, and nothing is lost`() throws {
    let (report, code) = try torture(["--live", "--seconds", "4", "--seed", "1"])
    #expect(code == 0 && report["lost"] == 0 && report["hung"] == 0, "\(report)")
    #expect(report["kills"]?.int ?? 0 > 0 && report["increments"]?.int ?? 0 > 10_000, "\(report)")
  }

  @Test(arguments: [[], ["--live"]]) func `stalls are measured`(_ freeze: [String]) throws {
    let (report, code) = try torture(["--stalls", "--seconds", "2"] + freeze)
    #expect(code == 0 && report["kills"] == 0 && report["lost"] == 0, "\(report)")
    #expect(report["replies"]?["enable ok"]?.int ?? 0 > 0 && report["stall_p99.9_ms"] != nil, "\(report)")
  }

  @Test(arguments: [TortureWriter.Canary.counter, .constant, .zeros])
  func `a tenant that loses a word by itself is found`(_ canary: TortureWriter.Canary) throws {
    let (report, code) = try torture(["--seconds", "1", "--seed", "1", "--canary", canary.rawValue])
    #expect(code == 1 && report["lost"]?.int ?? 0 > 0, "\(report)")
  }

  @Test func `a writer that stops is found`() throws {
    let (report, code) = try torture(["--seconds", "60", "--patience", "3", "--no-kill", "--canary", "hang"])
    #expect(code == 1 && report["hung"] == 1 && report["lost"] == 0, "\(report)")
  }

  @Test func `wrong words are a wrong use`() throws {
    for words in [["--seconds", "x"], ["--memory", "1K"], ["--seed", "-1"], ["more"]] {
      let (report, code) = try torture(words)
      #expect(code == 2 && report["error"]?["code"] == "usage")
    }
  }

  @Test func `keeper and worker die together: who touches what is away waits, and reads no zeros`() throws {
    let daemon = try Daemon()
    let geometry = try #require(Machine.pageGeometry())
    let bytes = 64 << 20
    let (board, memory) = (try TortureBoard(), try PatternMemory.makeFile(bytes: bytes))
    var processes: [ChildProcess] = []
    defer { for process in processes { process.end(signal: SIGKILL) } }
    for number in 0..<TortureLayout.processes {
      let process = try ChildProcess(
        executable: program,
        arguments: [
          TortureTenant.command, daemon.socketPath, "/proc/\(getpid())/fd/\(memory.raw)",
          "/proc/\(getpid())/fd/\(board.file.raw)", "\(number)", "\(geometry.pages(inBytes: UInt64(bytes)))", "1",
        ], keepsErrors: true)
      processes.append(process)
      #expect(process.readLine() == "joined")
    }
    for process in processes { process.writeLine("write") }
    try eventually("all write") { (0..<TortureLayout.writers).allSatisfy { board[.increments, $0] > 10_000 } }
    _ = try daemon.client().ask(["op": "enable", "tenant": .string(TortureTenant.name)])
    let workers = daemon.process.handle.workers()
    #expect(workers.count == 1)
    daemon.process.handle.kill()
    workers.forEach { $0.kill() }
    try eventually("both are dead") { !daemon.process.handle.isAlive && workers.allSatisfy { !$0.isAlive } }
    try eventually("all writers wait") {
      let before = board.sum(.increments)
      usleep(1_000_000)
      return board.sum(.increments) == before
    }
    #expect(board.sum(.lost) == 0)
    #expect(processes.allSatisfy { $0.handle.isAlive }, "they can be killed, and nothing else has ended them")
  }

  // MARK: A disk that fails

  private static let diskTries = 20

  @Test(.enabled(if: FailingDisk.isToBeHad))
  func `the disk fails while the worker is killed, and nothing is lost`() throws {
    let disk = try FailingDisk(bytes: 6 << 20, pretendedBytes: 64 << 20)
    // On a slow machine hardly any `out` comes so far, before another command ends it.
    for _ in 0..<Self.diskTries {
      let (report, code) = try torture(["--seconds", "5", "--disk-trouble"], swapDirectory: "\(disk.path)")
      #expect(code == 0 && report["lost"] == 0 && report["hung"] == 0, "\(report)")
      #expect(report["kills"]?.int ?? 0 > 0)
      let failures = ["no-space", "io-error"].compactMap { report["replies"]?["out \($0)"]?.int }
      if failures.contains(where: { $0 > 0 }) { return }
    }
    Issue.record("the disk did not fail in \(Self.diskTries) runs")
  }
}
