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
  var mark: Double?
  /// Crosvm's page handler, on a machine of two cores, and what the limit was there.
  var reference: Double?
  var referenceLimit: Double?

  var moreIsBetter: Bool { unit == .gibibytesPerSecond || unit == .pagesPerSecond }
  var hasLimit: Bool { moreIsBetter || unit == .microseconds }

  static let all: [BenchRow] = [
    BenchRow(
      name: "move", what: "enable, all resident", unit: .gibibytesPerSecond, mark: 0.9, reference: 2.06,
      referenceLimit: 2.60),
    BenchRow(
      name: "in-staging-untrimmed", what: "disable, all staged", unit: .gibibytesPerSecond, mark: 0.9, reference: 1.88),
    BenchRow(
      name: "trim-zero", what: "trim, a quarter zero", unit: .gibibytesPerSecond, mark: 0.85, reference: 3.3,
      referenceLimit: 8),
    BenchRow(
      name: "in-staging-trimmed", what: "disable, the rest staged", unit: .gibibytesPerSecond, mark: 0.85,
      reference: 1.18),
    BenchRow(
      name: "trim-zero-runs", what: "trim, a quarter zero in runs of 64", unit: .gibibytesPerSecond, mark: 0.85,
      reference: 3.5, referenceLimit: 16),
    BenchRow(
      name: "trim-modified-warm", what: "trim, half modified", unit: .gibibytesPerSecond, mark: 0.8, reference: 1.25),
    BenchRow(
      name: "trim-modified-cold", what: "the same, file not cached", unit: .gibibytesPerSecond, mark: 0.8,
      reference: 0.49),
    BenchRow(
      name: "out-trimmed", what: "out after trim, fresh file", unit: .gibibytesPerSecond, mark: 0.8, reference: 1.03,
      referenceLimit: 3.13),
    BenchRow(
      name: "in-file-trimmed", what: "disable, trimmed, cold file", unit: .gibibytesPerSecond, mark: 0.7,
      reference: 0.88),
    BenchRow(
      name: "out-untrimmed", what: "out untrimmed, fresh file", unit: .gibibytesPerSecond, mark: 0.9, reference: 0.38,
      referenceLimit: 3.13),
    BenchRow(
      name: "fault-file-p50", what: "first 100 faults, cold file", unit: .microseconds, mark: 1.3, reference: 4040,
      referenceLimit: 93.5),
    BenchRow(
      name: "in-file-untrimmed", what: "disable, untrimmed, cold file", unit: .gibibytesPerSecond, mark: 0.8,
      reference: 1.29),
    BenchRow(
      name: "fault-burst-p50", what: "faults back to back", unit: .microseconds, mark: 1.2, reference: 49,
      referenceLimit: 16.3),
    BenchRow(
      name: "fault-burst-p99", what: "", unit: .microseconds, mark: 1.2, reference: 70, referenceLimit: 26),
    BenchRow(
      name: "fault-rare-p50", what: "faults with 50 µs between", unit: .microseconds, mark: 1.1, reference: 49,
      referenceLimit: 48.5),
    BenchRow(
      name: "fault-rare-p99", what: "", unit: .microseconds, mark: 1.1, reference: 70, referenceLimit: 67),
    BenchRow(name: "faults-2-threads", what: "two threads at once", unit: .pagesPerSecond, mark: 0.9),
    BenchRow(name: "faults-4-threads", what: "four threads at once", unit: .pagesPerSecond, mark: 0.9),
    BenchRow(name: "fault-out-p99", what: "faults during out", unit: .microseconds, mark: 1.5),
    BenchRow(name: "fault-trim-p99", what: "faults during trim", unit: .microseconds, mark: 1.5),
    BenchRow(name: "fault-move-p99", what: "during another's enable", unit: .microseconds, mark: 1.5),
    BenchRow(
      name: "remove", what: "MADV_REMOVE, staged", unit: .pagesPerSecond, mark: 0.9, reference: 270_000,
      referenceLimit: 1_800_000),
    BenchRow(name: "tables-ready", what: "tables, Ready", unit: .bytesPerPage, mark: 1),
    BenchRow(name: "tables-out", what: "tables, all out", unit: .bytesPerPage, mark: 32, reference: 7.8),
    BenchRow(name: "idle-cpu", what: "100 enabled tenants, CPU", unit: .percent, mark: 0),
    BenchRow(name: "idle-memory", what: "each, besides tables", unit: .mebibytes, mark: 1),
    BenchRow(name: "kernel-out", what: "enable and out; MADV_PAGEOUT", unit: .gibibytesPerSecond),
    BenchRow(name: "kernel-fault-p50", what: "touch on disk; swapped page", unit: .microseconds),
    BenchRow(name: "kernel-fault-p99", what: "", unit: .microseconds),
  ]
}
