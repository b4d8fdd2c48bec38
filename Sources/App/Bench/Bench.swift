internal import Adapters
internal import Domain

/// `swap-monitor bench`: a daemon and a tenant of its own, each kind of work, and beside it what this machine can do at best.
enum Bench {
  static func run(_ arguments: Arguments) throws {
    let (geometry, pageCount) = try arguments.memory(standard: 1 << 30, 16 << 20..<1 << 40)
    let plan = BenchPlan(
      geometry: geometry, pageCount: pageCount, runs: try arguments.number("runs", 1...1000) ?? 5,
      zeroRun: try arguments.number("zero-run", 1...64), collapses: arguments.has("collapse"),
      rows: try rows(arguments))
    // Known before it takes minutes.
    let plot = arguments.value("plot")
    if let plot { try File.checkWritable(plot) }
    let stage = try Stage(arguments)
    defer { stage.end() }
    let run = BenchRun(plan: plan, stage: stage, showsProgress: !arguments.has("json") && Console.isTerminal)
    try run.play()
    ProgressLine.erase()
    let report = BenchReport(run, MachineDescription(swapDirectory: stage.swapDirectory))
    if let plot { try File.write(BenchPlot(report).svg, to: plot) }
    try arguments.conclude(
      report.json, report.text,
      complaint: report.mismatches == 0 ? nil : "\(report.mismatches.counted("page")) came back wrong")
  }

  /// Those that were asked for, by their names or how these begin.
  private static func rows(_ arguments: Arguments) throws(UsageError) -> [BenchRow] {
    if let other = arguments.value("compare"), other != "kernel-swap" {
      throw UsageError(message: "--compare: \"\(other)\"; kernel-swap is what can be compared with")
    }
    let known = BenchRow.all.filter { !$0.name.hasPrefix("kernel-") || arguments.value("compare") != nil }
    guard let only = arguments.value("only") else { return known }
    let names = only.split(separator: ",", omittingEmptySubsequences: false)
    for name in names where name.isEmpty || !known.contains(where: { $0.name.hasPrefix(name) }) {
      throw UsageError(
        message: "--only: there is no row \"\(name)\"; there are \(known.map(\.name).joined(separator: ", "))")
    }
    return known.filter { row in names.contains { row.name.hasPrefix($0) } }
  }
}

/// What is to be measured.
struct BenchPlan {
  let geometry: PageGeometry
  let pageCount: Int
  let runs: Int
  /// How many zero pages lie together; nil: one, and 64 for trim besides.
  let zeroRun: Int?
  /// Huge pages are made where the kernel's setting gives none.
  let collapses: Bool
  let rows: [BenchRow]

  /// Touches of one kind in a run.
  var touches: Int { min(20_000, pageCount / 8) }

  func wants(_ names: String...) -> Bool { rows.contains { names.contains($0.name) } }
}
