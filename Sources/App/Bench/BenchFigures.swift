internal import Adapters

/// What was measured of one row.
struct BenchFigures {
  struct Series {
    private(set) var values: [Double] = []
    /// Seconds of processors, for a GiB, a page, or whatever the row's unit counts.
    private var processorSeconds: [Double] = []

    mutating func add(_ value: Double, processorSeconds seconds: Double?) {
      values.append(value)
      if let seconds { processorSeconds.append(seconds) }
    }

    var median: Double { Self.median(values) }
    var medianProcessorSeconds: Double? { processorSeconds.isEmpty ? nil : Self.median(processorSeconds) }

    private static func median(_ values: [Double]) -> Double {
      let sorted = values.sorted()
      let middle = sorted.count / 2
      return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
    }
  }

  var ours = Series()
  /// By way and number of threads; the best one is the limit.
  var limits: [String: Series] = [:]
  /// Why the row does not hold, whatever its ratio.
  var objection: String?

  func limit(_ row: BenchRow) -> (way: String, series: Series)? {
    let ordered = limits.sorted {
      row.moreIsBetter ? $0.value.median > $1.value.median : $0.value.median < $1.value.median
    }
    return ordered.first.map { ($0.key, $0.value) }
  }

  func ratio(_ row: BenchRow) -> Double? { limit(row).map { ours.median / $0.series.median } }

  /// nil where nothing is asked.
  func holds(_ row: BenchRow) -> Bool? {
    guard let mark = row.mark else { return nil }
    guard objection == nil else { return false }
    guard row.hasLimit else { return ours.median <= mark }
    return ratio(row).map { row.moreIsBetter ? $0 >= mark : $0 <= mark }
  }
}
