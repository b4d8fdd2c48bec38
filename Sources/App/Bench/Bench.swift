internal import Adapters
internal import Domain

/// `swap-monitor bench`: a daemon and a tenant of its own, each kind of work, and beside it what this machine can do at best.
enum Bench {
  typealias Failure = Demo.Failure

  private static let defaultBytes: UInt64 = 1 << 30
  private static let smallestBytes: UInt64 = 16 << 20
  private static let defaultRuns = 5

  static func run(_ words: [String]) throws {
    let arguments = try Arguments(words, of: "bench")
    if arguments.has("help") { return Console.write(Help.bench + "\n") }
    try arguments.expectWords(0...0, "")
    guard let geometry = Machine.pageGeometry() else {
      throw Failure(message: "this machine's page size is not a power of two")
    }
    let bytes = try arguments.size("memory") ?? defaultBytes
    guard bytes >= smallestBytes, bytes < 1 << 40 else {
      throw UsageError(
        message: "--memory: \(ByteSize.text(bytes)); between \(ByteSize.text(smallestBytes)) and 1 TiB is right")
    }
    let plan = BenchPlan(
      pageCount: geometry.pages(inBytes: bytes), runs: try number("runs", 1...1000, arguments) ?? defaultRuns,
      zeroRun: try number("zero-run", 1...64, arguments), rows: try rows(arguments))
    let stage = try BenchStage(swapDirectory: arguments.value("swap-dir"), geometry: geometry)
    defer { stage.end() }
    let run = BenchRun(plan: plan, stage: stage, showsProgress: !arguments.has("json") && Console.isTerminal)
    let figures = try run.play()
    ProgressLine.erase()
    let report = BenchReport(plan: plan, figures: figures, mismatches: run.mismatches)
    if let path = arguments.value("plot") { try Directory.writeFile(path, BenchPlot(report).svg) }
    // One JSON object in all: a failure takes the report along.
    if report.mismatches == 0 || !arguments.has("json") {
      if arguments.has("json") { ClientCommands.printJSON(report.json) } else { Console.write(report.text) }
    }
    guard report.mismatches == 0 else {
      throw Failure(message: "\(report.mismatches) pages came back wrong", report: report.json)
    }
  }

  private static func number(_ name: String, _ allowed: ClosedRange<Int>, _ arguments: Arguments) throws(UsageError)
    -> Int?
  {
    guard let text = arguments.value(name) else { return nil }
    guard let number = Int(text), allowed.contains(number) else {
      throw UsageError(
        message: "--\(name): \"\(text)\"; a number from \(allowed.lowerBound) to \(allowed.upperBound) is right")
    }
    return number
  }

  /// Those that were asked for, by their names or how these begin.
  private static func rows(_ arguments: Arguments) throws(UsageError) -> [BenchRow] {
    if let other = arguments.value("compare"), other != "kernel-swap" {
      throw UsageError(message: "--compare: \"\(other)\"; kernel-swap is what can be compared with")
    }
    let known = BenchRow.all.filter { !$0.name.hasPrefix("kernel-") || arguments.value("compare") != nil }
    guard let only = arguments.value("only") else { return known }
    let names = only.split(separator: ",")
    for name in names where !known.contains(where: { $0.name.hasPrefix(name) }) {
      throw UsageError(
        message: "--only: there is no row \"\(name)\"; there are \(known.map(\.name).joined(separator: ", "))")
    }
    return known.filter { row in names.contains { row.name.hasPrefix($0) } }
  }
}

/// What is to be measured.
struct BenchPlan {
  let pageCount: Int
  let runs: Int
  /// How many zero pages lie together; nil: one, and 64 for trim besides.
  let zeroRun: Int?
  let rows: [BenchRow]

  /// Touches of one kind in a run.
  var touches: Int { min(20_000, pageCount / 8) }

  func wants(_ names: String...) -> Bool { rows.contains { names.contains($0.name) } }
}
