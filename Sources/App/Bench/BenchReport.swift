internal import Adapters

/// The benchmark's table, for people and as JSON.
struct BenchReport {
  let mismatches: Int
  private let plan: BenchPlan
  private let figures: [String: BenchFigures]
  private let notes: [String]
  private let machine: MachineDescription

  init(_ run: BenchRun, _ machine: MachineDescription) {
    (plan, figures, notes, mismatches) = (
      run.plan, run.figures, run.notes.sorted { $0.key < $1.key }.map(\.value), run.mismatches
    )
    self.machine = machine
  }

  /// When and where it was measured.
  var setting: String {
    "\(machine.day): \(machine.processors) × \(machine.model), \(ByteSize.text(machine.memoryBytes)) of RAM, Linux "
      + "\(machine.kernel), swap files on \(machine.filesystem), huge pages of shared memory: \(machine.hugePages)"
  }

  /// With what was measured of them.
  var rows: [(row: BenchRow, figures: BenchFigures)] {
    plan.rows.compactMap { row in figures[row.name].flatMap { $0.ours.values.isEmpty ? nil : (row, $0) } }
  }

  var text: String {
    var table = Table(
      [
        "ROW", "UNIT", "OURS", "(MIN-MAX)", "LIMIT", "(MIN-MAX)", "RATIO", "MARK", "HOLDS", "CPU", "LIMIT'S",
        "REFERENCE", "WORK",
      ],
      numbers: [2, 4, 6, 9, 10, 11])
    for (row, figures) in rows {
      let limit = figures.limit(row)
      let holds = figures.holds(row)
      table.add([
        row.name, row.unit.rawValue, Self.short(figures.ours.median), Self.spread(figures.ours),
        limit.map { Self.short($0.series.median) } ?? "", limit.map { Self.spread($0.series) } ?? "",
        figures.ratio(row).map { Self.ratio($0, row) } ?? "", Self.mark(row),
        holds.map { $0 ? "yes" : "NO" } ?? "", Self.processor(figures.ours, row),
        limit.map { Self.processor($0.series, row) } ?? "", row.reference.map(Self.short) ?? "",
        [row.what, limit.map { "[limit: \($0.way)]" } ?? ""].filter { !$0.isEmpty }.joined(separator: " "),
      ])
    }
    let held = rows.filter { $0.figures.holds($0.row) == true }.count
    let asked = rows.filter { $0.row.mark != nil }.count
    let objections = rows.compactMap { row, figures in figures.objection.map { "\(row.name): \($0)\n" } }.joined()
    return """
      \(setting)
      \(ByteSize.text(UInt64(plan.geometry.bytes(inPages: plan.pageCount)))), \(plan.runs.counted("run")), medians; zero pages in runs of \(plan.zeroRun ?? 1). CPU: seconds a GiB, or µs a page.

      \(table.text)\(objections)\(notes.map { $0 + "\n" }.joined())
      \(held) of \(asked) marks hold. \(mismatches == 0 ? "Every page was compared after each return, and is right." : "WRONG: \(mismatches.counted("page")).")

      """
  }

  var json: JSONValue {
    [
      "machine": [
        "day": .string(machine.day), "kernel": .string(machine.kernel), "processors": .int(machine.processors),
        "processor": .string(machine.model), "memory_bytes": .unsigned(machine.memoryBytes),
        "swap_filesystem": .string(machine.filesystem), "shmem_huge_pages": .string(machine.hugePages),
      ],
      "notes": .array(notes.map { .string($0) }), "pages": .int(plan.pageCount), "runs": .int(plan.runs),
      "mismatched_pages": .int(mismatches), "verified": .bool(mismatches == 0),
      "rows": .array(rows.map { Self.json($0.row, $0.figures) }),
    ]
  }

  /// Two decimals, or as many as show on which side of the mark it is.
  private static func ratio(_ ratio: Double, _ row: BenchRow) -> String {
    let isClose = row.mark.map { ($0 - ratio).magnitude < 0.005 } ?? false
    return ByteSize.decimals(ratio, isClose ? 4 : 2)
  }

  private static func json(_ row: BenchRow, _ figures: BenchFigures) -> JSONValue {
    func number(_ value: Double?) -> JSONValue { value.flatMap { $0.isFinite ? .number($0) : nil } ?? .null }
    func spread(_ series: BenchFigures.Series?) -> JSONValue {
      ["min": number(series?.values.min()), "max": number(series?.values.max())]
    }
    let limit = figures.limit(row)
    return [
      "name": .string(row.name), "unit": .string(row.unit.rawValue), "ours": number(figures.ours.median),
      "limit": number(limit?.series.median), "ratio": number(figures.ratio(row)), "mark": number(row.mark),
      "holds": figures.holds(row).map { .bool($0) } ?? .null, "ours_spread": spread(figures.ours),
      "limit_spread": spread(limit?.series), "limit_way": limit.map { .string($0.way) } ?? .null,
      "cpu_seconds": number(figures.ours.medianProcessorSeconds),
      "limit_cpu_seconds": number(limit?.series.medianProcessorSeconds), "reference": number(row.reference),
      "objection": figures.objection.map { .string($0) } ?? .null,
    ]
  }

  // MARK: Figures

  /// Three digits.
  static func short(_ value: Double) -> String {
    ByteSize.decimals(value, value < 10 ? 2 : value < 100 ? 1 : 0)
  }

  private static func spread(_ series: BenchFigures.Series) -> String {
    "\(short(series.values.min() ?? 0))-\(short(series.values.max() ?? 0))"
  }

  private static func mark(_ row: BenchRow) -> String {
    guard let mark = row.mark else { return "" }
    return (row.moreIsBetter ? ">= " : "<= ") + (row.hasLimit ? ByteSize.decimals(mark, 2) : short(mark))
  }

  private static func processor(_ series: BenchFigures.Series, _ row: BenchRow) -> String {
    guard let seconds = series.medianProcessorSeconds else { return "" }
    return row.unit == .gibibytesPerSecond ? "\(short(seconds)) s" : "\(short(seconds * 1e6)) µs"
  }
}
