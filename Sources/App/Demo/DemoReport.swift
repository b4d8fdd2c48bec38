internal import Adapters
internal import Domain

/// What the demo shows: a row a step, progress on a terminal, latencies and the verdict; or all of it as JSON.
struct DemoReport {
  struct Row {
    let step: String
    let what: String
    let pages: Int
    let nanoseconds: UInt64
    /// Pages in the guest, in staging, in the swap file.
    let held: [Int]
  }

  let printsJSON: Bool
  let pageBytes: Int
  let pageCount: Int
  var isUserModeOnly = false
  /// What the tenant says of its hot pages.
  var hot = Touches(.null)
  /// What it says of touches, by where the pages were.
  var touches: [(place: String, touches: Touches)] = []
  private var rows: [Row] = []
  var showsProgress: Bool { !printsJSON && Console.isTerminal }

  init(printsJSON: Bool, pageBytes: Int, pageCount: Int) {
    self.printsJSON = printsJSON
    self.pageBytes = pageBytes
    self.pageCount = pageCount
  }

  /// nil where no progress is shown.
  func progressLine(_ step: String) -> ProgressLine? {
    showsProgress ? ProgressLine(step: step, pageBytes: pageBytes, expectedPages: pageCount) : nil
  }

  func begin() {
    var text = "A tenant with \(size(pageCount)) of memory; 5 % of its pages go on being written all the while.\n"
    if isUserModeOnly {
      text += """
        Without root its userfaultfd is for user mode only: faults of the process itself are served, as here; the kernel's
        own access to its memory (KVM, read(2) into it) would fail with EFAULT, so a VM needs root or /dev/userfaultfd.

        """
    }
    show(text + "\n" + Self.line(["step", "pages", "size", "time", "rate", "|", "guest", "staging", "file", ""]))
  }

  mutating func add(_ row: Row) {
    rows.append(row)
    show(
      Self.line(
        [row.step, "\(row.pages)", size(row.pages), Self.time(row.nanoseconds), rate(row), "|"]
          + row.held.map(size) + [row.what]))
  }

  private func show(_ text: String) {
    guard !printsJSON else { return }
    ProgressLine.erase()
    Console.write(text)
  }

  func ending(_ mismatches: Int) -> String {
    let lines = touches.filter { $0.touches.count > 0 }.map { place, touches in
      let times = ["p50", "p99", "max"].map { key in
        "\(key) \(Table.padded(ByteSize.decimals(touches.microseconds(key), 1), -9)) µs"
      }
      return "  \(Table.padded("from " + place, 16))\(times.joined(separator: "   "))\n"
    }
    return """

      A touch of a page that was away:
      \(lines.joined())  Hot pages were written \(hot.count.counted("time")) meanwhile. The longest time \
      between two writes was \(Self.time(UInt64(hot.microseconds("max") * 1000))): its process is stopped while enable moves pages.

      \(mismatches == 0
        ? "Every byte of \(size(pageCount)) is what was written."
        : "WRONG: \(mismatches) of \(pageCount) pages are not what was written.")

      """
  }

  // MARK: Words and figures

  func json(_ mismatches: Int) -> JSONValue {
    let places = touches.filter { $0.touches.count > 0 }.map { place, touches in
      (place, JSONValue.object(["p50", "p99", "max"].reduce(into: [:]) { $0[$1] = .number(touches.microseconds($1)) }))
    }
    return [
      "pages": .int(pageCount), "page_size": .int(pageBytes), "user_mode_only": .bool(isUserModeOnly),
      "rows": .array(
        rows.map { row in
          [
            "step": .string(row.step), "pages": .int(row.pages), "bytes": .int(row.pages * pageBytes),
            "seconds": .number(Double(row.nanoseconds) / 1e9), "guest_pages": .int(row.held[0]),
            "staging_pages": .int(row.held[1]), "file_pages": .int(row.held[2]),
          ]
        }),
      "latency_microseconds": .object(Dictionary(uniqueKeysWithValues: places)),
      "hot": [
        "touches": .int(hot.count), "longest_nanoseconds": .int(Int(hot.microseconds("max") * 1000)),
      ],
      "mismatched_pages": .int(mismatches), "verified": .bool(mismatches == 0),
    ]
  }

  private func size(_ pages: Int) -> String { ByteSize.text(UInt64(pages * pageBytes)) }

  private func rate(_ row: Row) -> String {
    guard row.nanoseconds > 0, row.pages > 0 else { return "" }
    return ByteSize.text(UInt64(Double(row.pages * pageBytes) / (Double(row.nanoseconds) / 1e9))) + "/s"
  }

  private static func time(_ nanoseconds: UInt64) -> String {
    nanoseconds < 1_000_000_000
      ? ByteSize.decimals(Double(nanoseconds) / 1e6, 1) + " ms" : ByteSize.decimals(Double(nanoseconds) / 1e9, 2) + " s"
  }

  private static let columnWidths = [17, -8, -9, -9, -12, 1, -9, -9, -9, 0]

  private static func line(_ cells: [String]) -> String {
    zip(cells, columnWidths).map { Table.padded($0, $1) }.joined(separator: " ") + "\n"
  }
}
