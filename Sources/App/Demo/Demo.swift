internal import Adapters
internal import Domain

/// `swap-monitor demo`: a daemon and a tenant, both processes of their own, and every byte checked.
enum Demo {
  static let tenantName = "demo"
  private static let touches = 2000

  static func run(_ arguments: Arguments) throws {
    let (geometry, pageCount) = try arguments.memory(standard: 1 << 30, 1 << 20..<1 << 43)
    let stage = try Stage(arguments)
    defer { stage.end() }
    let report = DemoReport(
      printsJSON: arguments.has("json"), pageBytes: geometry.pageBytes, pageCount: pageCount)
    var run = try DemoRun(stage, report)
    defer { run.tenant.leave() }
    // Everybody is connected.
    stage.hide()
    let mismatches = try run.play(touches: min(touches, pageCount / 64))
    try arguments.conclude(
      run.report.json(mismatches), run.report.ending(mismatches),
      complaint: mismatches == 0 ? nil : "\(mismatches.counted("page")) came back wrong")
  }
}

/// The steps of one demo.
struct DemoRun {
  let tenant: PatternGuest
  private(set) var report: DemoReport
  private let client: Client
  /// A connection of its own for showing progress.
  private let watcher: Client

  /// Its tenant's memory is filled.
  init(_ stage: Stage, _ report: DemoReport) throws {
    self.report = report
    client = stage.client
    watcher = try Client(path: stage.socket)
    let line = report.progressLine("fill")
    tenant = try PatternGuest(
      named: Demo.tenantName, stage, pageCount: report.pageCount, ["\(Machine.randomWords(1)[0])"]
    ) { line?.draw(pages: $0) }
    self.report.isUserModeOnly = tenant.registered["user_mode_only"]?.isTrue == true
    self.report.begin()
    try row(
      "fill", "random, text-like and zero pages", pages: report.pageCount,
      nanoseconds: UInt64(tenant.registered["nanoseconds"]?.int ?? 0))
  }

  /// - Returns: how many pages came back wrong.
  mutating func play(touches: Int) throws -> Int {
    try tenant.tell("hot")
    try command("enable", "everything resident into staging")
    try touch("touch in staging", "data", count: touches, place: "staging")
    try command("trim", "zero pages dropped")
    try command("out", "the rest to the swap file")
    try touch("touch on disk", "data", count: touches, place: "file")
    try touch("touch zero pages", "zero", count: touches, place: "zero page")
    try command("enable", "what came back, once more")
    try command("trim", "zero and unchanged pages dropped")
    try command("out", "what had changed")
    try command("disable", "everything back")
    report.hot = Touches(try tenant.tell("end"))
    let start = SystemClock().nowNanoseconds
    let line = report.progressLine("compare")
    let wrong = try tenant.tell("verify") { line?.draw(pages: $0) }["mismatches"]?.int ?? report.pageCount
    try row(
      "compare", "every byte with what was written", pages: report.pageCount,
      nanoseconds: SystemClock().nowNanoseconds - start)
    return wrong
  }

  private mutating func command(_ name: String, _ what: String) throws {
    let start = SystemClock().nowNanoseconds
    let request: [String: JSONValue] = ["op": .string(name), "tenant": .string(Demo.tenantName), "wait": true]
    let reply: JSONValue
    if report.showsProgress {
      var progress = ProgressWatch(name, tenant: Demo.tenantName, client: client, watcher: watcher)
      reply = try progress.ask(request)
    } else {
      reply = try client.ask(request)
    }
    try row(
      name, what, pages: reply["state_transition"]?["pages"]?.int ?? 0,
      nanoseconds: SystemClock().nowNanoseconds - start)
  }

  private mutating func touch(_ name: String, _ kind: String, count: Int, place: String) throws {
    let touches = try tenant.touch(count, of: kind)
    report.touches.append((place, touches))
    try row(name, "random pages, one read each", pages: touches.touched, nanoseconds: touches.nanoseconds)
  }

  private mutating func row(_ name: String, _ what: String, pages: Int, nanoseconds: UInt64) throws {
    let metrics = try client.ask(["op": "status", "tenant": .string(Demo.tenantName)])["metrics"]
    report.add(
      DemoReport.Row(
        step: name, what: what, pages: pages, nanoseconds: nanoseconds,
        held: ["resident_pages", "staging_pages", "swap_pages"].map { metrics?[$0]?.int ?? 0 }))
  }
}
