/// A row of the benchmark: a kind of work, and how close to this machine's limit it shall come.
struct BenchRow {
  enum Unit: String {
    case gibibytesPerSecond = "GiB/s"
    case pagesPerSecond = "pages/s"
    case microseconds = "µs"
    case bytesPerPage = "B/page"
    case percent = "%"
    case mebibytes = "MiB"
  }

  let name: String
  let what: String
  let unit: Unit
  /// Of ours to the limit; of ours itself where there is no limit. nil: nothing is asked.
  let mark: Double?
  /// Crosvm's page handler, on a machine of two cores, and what the limit was there.
  let reference: Double?
  let referenceLimit: Double?

  var moreIsBetter: Bool { unit == .gibibytesPerSecond || unit == .pagesPerSecond }
  var hasLimit: Bool { moreIsBetter || unit == .microseconds }

  private init(
    _ name: String, _ what: String, _ unit: Unit, _ mark: Double?, reference: Double? = nil, limit: Double? = nil
  ) {
    (self.name, self.what, self.unit, self.mark) = (name, what, unit, mark)
    (self.reference, referenceLimit) = (reference, limit)
  }

  static let all: [BenchRow] = [
    .init("move", "enable, all resident", .gibibytesPerSecond, 0.9, reference: 2.06, limit: 2.60),
    .init("in-staging-untrimmed", "disable, all staged", .gibibytesPerSecond, 0.9, reference: 1.88),
    .init("huge-move", "enable, all resident in huge pages", .gibibytesPerSecond, 0.9),
    .init("huge-in-staging", "disable, what was in huge pages", .gibibytesPerSecond, 0.9),
    .init("huge-whole", "huge pages whole when back", .percent, nil),
    .init("trim-zero", "trim, a quarter zero", .gibibytesPerSecond, 0.85, reference: 3.3, limit: 8),
    .init("in-staging-trimmed", "disable, the rest staged", .gibibytesPerSecond, 0.85, reference: 1.18),
    .init(
      "trim-zero-runs", "trim, a quarter zero in runs of 64", .gibibytesPerSecond, 0.85, reference: 3.5, limit: 16),
    .init("trim-modified-warm", "trim, half modified", .gibibytesPerSecond, 0.8, reference: 1.25),
    .init("trim-modified-cold", "the same, file not cached", .gibibytesPerSecond, 0.8, reference: 0.49),
    .init("out-trimmed", "out after trim, fresh file", .gibibytesPerSecond, 0.8, reference: 1.03, limit: 3.13),
    .init("in-file-trimmed", "disable, trimmed, cold file", .gibibytesPerSecond, 0.7, reference: 0.88),
    .init("out-untrimmed", "out untrimmed, fresh file", .gibibytesPerSecond, 0.9, reference: 0.38, limit: 3.13),
    .init("fault-file-p50", "first 100 faults, cold file", .microseconds, 1.3, reference: 4040, limit: 93.5),
    .init("in-file-untrimmed", "disable, untrimmed, cold file", .gibibytesPerSecond, 0.8, reference: 1.29),
    .init("fault-burst-p50", "faults back to back", .microseconds, 1.2, reference: 49, limit: 16.3),
    .init("fault-burst-p99", "", .microseconds, 1.2, reference: 70, limit: 26),
    .init("fault-rare-p50", "faults with 50 µs between", .microseconds, 1.1, reference: 49, limit: 48.5),
    .init("fault-rare-p99", "", .microseconds, 1.1, reference: 70, limit: 67),
    .init("faults-2-threads", "two threads at once", .pagesPerSecond, 0.9),
    .init("faults-4-threads", "four threads at once", .pagesPerSecond, 0.9),
    .init("fault-out-p99", "faults during out", .microseconds, 1.5),
    .init("fault-trim-p99", "faults during trim", .microseconds, 1.5),
    .init("fault-move-p99", "during another's enable", .microseconds, 1.5),
    .init("remove", "MADV_REMOVE, staged", .pagesPerSecond, 0.9, reference: 270_000, limit: 1_800_000),
    .init("tables-ready", "tables, Ready", .bytesPerPage, 1),
    .init("tables-out", "tables, all out", .bytesPerPage, 32, reference: 7.8),
    .init("idle-cpu", "100 enabled tenants, CPU", .percent, 0.05),  // 0 %, rounded to a decimal
    .init("idle-memory", "each, besides tables", .mebibytes, 1),
    .init("kernel-out", "enable and out; MADV_PAGEOUT", .gibibytesPerSecond, nil),
    .init("kernel-fault-p50", "touch that waits for the disk", .microseconds, nil),
    .init("kernel-fault-p99", "", .microseconds, nil),
  ]
}
