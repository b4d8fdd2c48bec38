internal import Adapters
internal import Domain

/// `swap-monitor demo`: a daemon and a tenant, both processes of their own, and every byte checked.
enum Demo {
  struct Failure: Error {
    let message: String
    /// The report that tells of it, with --json.
    var report: JSONValue?
  }

  static let tenantName = "demo"
  /// Touches of different turns go to different pages.
  static let turns = 4
  private static let defaultBytes: UInt64 = 1 << 30
  private static let smallestBytes: UInt64 = 1 << 20
  private static let touchesPerTurn = 2000

  static func run(_ words: [String]) throws {
    let arguments = try Arguments(words, of: "demo")
    if arguments.has("help") { return Console.write(Help.demo + "\n") }
    try arguments.expectWords(0...0, "")
    guard let geometry = Machine.pageGeometry() else {
      throw Failure(message: "this machine's page size is not a power of two")
    }
    let bytes = try arguments.size("memory") ?? defaultBytes
    guard bytes >= smallestBytes, bytes < 1 << 43 else {
      throw UsageError(
        message: "--memory: \(ByteSize.text(bytes)); between \(ByteSize.text(smallestBytes)) and 8 TiB is right")
    }
    let directory = try Directory.makeTemporary()
    defer { Directory.remove(directory) }
    let report = DemoReport(
      printsJSON: arguments.has("json"), pageBytes: geometry.pageBytes, pageCount: geometry.pages(inBytes: bytes))
    var serve = ["serve", "--end-with-parent", "--log-level", "warning", "--socket", "\(directory)/socket"]
    if let swapDirectory = arguments.value("swap-dir") { serve += ["--swap-dir", swapDirectory] }
    let daemon = try ChildProcess(arguments: serve, keepsErrors: true)
    defer { daemon.end(signal: ChildProcess.terminate) }
    let client = try connect(to: "\(directory)/socket", daemon)
    let tenant = try ChildProcess(
      arguments: [
        DemoTenant.command, "\(directory)/socket", "\(report.pageCount)", "\(Machine.randomWords(1)[0])",
      ], keepsErrors: true)
    defer { tenant.end() }
    var run = DemoRun(client: client, tenant: tenant, report: report, watcher: try Client(path: "\(directory)/socket"))
    try run.fill()
    // Everybody is connected: nothing is left behind, however the demo ends.
    Directory.removeFile("\(directory)/socket")
    Directory.remove(directory)
    let mismatches = try run.play(touches: min(touchesPerTurn, report.pageCount / 64))
    let isRight = mismatches == 0
    // One JSON object in all: a failure takes the report along.
    if isRight || !run.report.printsJSON { run.report.finish(mismatches: mismatches) }
    guard isRight else {
      throw Failure(message: "\(mismatches) pages came back wrong", report: run.report.json(mismatches))
    }
  }

  /// The daemon needs a moment until it listens.
  static func connect(to path: String, _ daemon: ChildProcess) throws -> Client {
    let clock = SystemClock()
    let deadline = clock.nowNanoseconds + 10_000_000_000
    while true {
      do throws(Client.Failure) { return try Client(path: path) } catch {
        guard daemon.handle.isAlive else { throw Failure(message: "the daemon could not start") }
        guard clock.nowNanoseconds < deadline else { throw Failure(message: error.message) }
        clock.sleep(microseconds: 5000)
      }
    }
  }
}

/// The steps of one demo.
struct DemoRun {
  let client: Client
  let tenant: ChildProcess
  var report: DemoReport
  /// A connection of its own for showing progress.
  let watcher: Client

  /// - Returns: how many pages came back wrong.
  mutating func play(touches: Int) throws -> Int {
    tenant.writeLine("hot")
    try command("enable", "everything resident into staging")
    let staging = try touch("touch in staging", "data", count: touches, turn: 0)
    try command("trim", "zero pages dropped")
    try command("out", "the rest to the swap file")
    let file = try touch("touch on disk", "data", count: touches, turn: 1)
    let zero = try touch("touch zero pages", "zero", count: touches, turn: 2)
    try command("enable", "what came back, once more")
    try command("trim", "zero and unchanged pages dropped")
    try command("out", "what had changed")
    try command("disable", "everything back")
    tenant.writeLine("cool")
    report.hot = try nextAnswer("touches")
    report.latencies = [("staging", staging), ("file", file), ("zero page", zero)]
    return try verify()
  }

  mutating func fill() throws {
    let answer = try nextAnswer("registered")
    report.isUserModeOnly = answer["user_mode_only"]?.isTrue == true
    report.begin()
    try row(
      "fill", "random, text-like and zero pages", pages: report.pageCount,
      nanoseconds: UInt64(answer["nanoseconds"]?.int ?? 0))
  }

  private mutating func command(_ name: String, _ what: String) throws {
    let clock = SystemClock()
    let start = clock.nowNanoseconds
    let request: [String: JSONValue] = ["op": .string(name), "tenant": .string(Demo.tenantName), "wait": true]
    let reply: JSONValue
    if report.showsProgress {
      var progress = ProgressWatch(name, tenant: Demo.tenantName, client: client, watcher: watcher)
      reply = try progress.ask(request)
    } else {
      reply = try client.ask(request)
    }
    try row(
      name, what, pages: reply["state_transition"]?["pages"]?.int ?? 0, nanoseconds: clock.nowNanoseconds - start)
  }

  private mutating func touch(_ name: String, _ kind: String, count: Int, turn: Int) throws -> [UInt64] {
    tenant.writeLine("touch \(kind) \(count) \(turn)")
    let answer = try nextAnswer("latencies")
    let latencies = (answer["latencies"]?.elements ?? []).compactMap { $0.int.map { UInt64($0) } }
    try row(name, "random pages, one read each", pages: latencies.count, nanoseconds: latencies.reduce(0, +))
    return latencies.sorted()
  }

  private mutating func verify() throws -> Int {
    let clock = SystemClock()
    let start = clock.nowNanoseconds
    tenant.writeLine("verify")
    let wrong = try nextAnswer("mismatches")["mismatches"]?.int ?? report.pageCount
    try row(
      "compare", "every byte with what was written", pages: report.pageCount, nanoseconds: clock.nowNanoseconds - start)
    return wrong
  }

  private mutating func row(_ name: String, _ what: String, pages: Int, nanoseconds: UInt64) throws {
    let metrics = try client.ask(["op": "status", "tenant": .string(Demo.tenantName)])["metrics"]
    report.add(
      DemoReport.Row(
        step: name, what: what, pages: pages, nanoseconds: nanoseconds,
        guestPages: metrics?["resident_pages"]?.int ?? 0, stagingPages: metrics?["staging_pages"]?.int ?? 0,
        filePages: metrics?["swap_pages"]?.int ?? 0))
  }

  /// The tenant's next answer of a kind; what comes before tells how far it is.
  private mutating func nextAnswer(_ key: String) throws(Demo.Failure) -> JSONValue {
    let progress = ProgressLine(
      step: key == "registered" ? "fill" : "compare", pageBytes: report.pageBytes, expectedPages: report.pageCount)
    while let line = tenant.readLine() {
      guard let answer = JSONValue.parse(Array(line.utf8)) else { continue }
      if answer[key] != nil { return answer }
      if let done = answer["done"]?.int, report.showsProgress { progress.draw(pages: done) }
    }
    throw Demo.Failure(message: "the tenant process has ended before its time")
  }
}
