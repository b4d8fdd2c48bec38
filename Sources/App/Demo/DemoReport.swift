internal import Adapters
internal import Domain

/// What the demo shows: a row a step, progress on a terminal, latencies and the verdict; or all of it as JSON.
struct DemoReport {
  struct Row {
    let step: String
    let what: String
    let pages: Int
    let nanoseconds: UInt64
    let guestPages: Int
    let stagingPages: Int
    let filePages: Int
  }

  let printsJSON: Bool
  let pageBytes: Int
  let pageCount: Int
  var isUserModeOnly = false
  /// What the tenant says of its hot pages.
  var hot: JSONValue = .null
  /// Sorted, in nanoseconds, by where the pages were.
  var latencies: [(place: String, nanoseconds: [UInt64])] = []
  private var rows: [Row] = []
  var showsProgress: Bool { !printsJSON && Console.isTerminal }

  init(printsJSON: Bool, pageBytes: Int, pageCount: Int) {
    self.printsJSON = printsJSON
    self.pageBytes = pageBytes
    self.pageCount = pageCount
  }

  func begin() {
    guard !printsJSON else { return }
    if showsProgress { ProgressLine.erase() }
    Console.write("A tenant with \(size(pageCount)) of memory; 5 % of its pages go on being written all the while.\n")
    if isUserModeOnly {
      Console.write(
        """
        Without root its userfaultfd is for user mode only: faults of the process itself are served, as here; the kernel's
        own access to its memory (KVM, read(2) into it) would fail with EFAULT, so a VM needs root or /dev/userfaultfd.

        """)
    }
    Console.write("\n" + Self.line(["step", "pages", "size", "time", "rate", "|", "guest", "staging", "file", ""]))
  }

  mutating func add(_ row: Row) {
    rows.append(row)
    guard !printsJSON else { return }
    if showsProgress { ProgressLine.erase() }
    Console.write(
      Self.line([
        row.step, "\(row.pages)", size(row.pages), Self.time(row.nanoseconds), rate(row), "|", size(row.guestPages),
        size(row.stagingPages), size(row.filePages), row.what,
      ]))
  }

  func finish(mismatches: Int) {
    if printsJSON { return Console.write(String(decoding: json(mismatches).bytes, as: UTF8.self) + "\n") }
    Console.write("\nA touch of a page that was away:\n")
    for (place, nanoseconds) in latencies where !nanoseconds.isEmpty {
      Console.write(
        "  \(Self.padded("from " + place, 16))p50 \(Self.micros(Self.percentile(nanoseconds, 50)))   "
          + "p99 \(Self.micros(Self.percentile(nanoseconds, 99)))   max \(Self.micros(nanoseconds[nanoseconds.count - 1]))\n"
      )
    }
    let longest = UInt64(hot["longest_nanoseconds"]?.int ?? 0)
    Console.write(
      "  Hot pages were written \(hot["touches"]?.int ?? 0) times meanwhile. The longest time between two writes was "
        + "\(Self.time(longest)): its process is stopped while enable moves pages.\n\n")
    Console.write(
      mismatches == 0
        ? "Every byte of \(size(pageCount)) is what was written.\n"
        : "WRONG: \(mismatches) of \(pageCount) pages are not what was written.\n")
  }

  // MARK: Words and figures

  func json(_ mismatches: Int) -> JSONValue {
    .object([
      "pages": .int(pageCount), "page_size": .int(pageBytes), "user_mode_only": .bool(isUserModeOnly),
      "rows": .array(
        rows.map { row in
          .object([
            "step": .string(row.step), "pages": .int(row.pages), "bytes": .int(row.pages * pageBytes),
            "seconds": .number(Double(row.nanoseconds) / 1e9), "guest_pages": .int(row.guestPages),
            "staging_pages": .int(row.stagingPages), "file_pages": .int(row.filePages),
          ])
        }),
      "latency_microseconds": .object(
        Dictionary(
          uniqueKeysWithValues: latencies.filter { !$0.nanoseconds.isEmpty }.map { place, sorted in
            func micros(_ nanoseconds: UInt64) -> JSONValue { .number(Double(nanoseconds) / 1000) }
            return (
              place,
              JSONValue.object([
                "p50": micros(Self.percentile(sorted, 50)), "p99": micros(Self.percentile(sorted, 99)),
                "max": micros(sorted[sorted.count - 1]),
              ])
            )
          })),
      "hot": hot, "mismatched_pages": .int(mismatches), "verified": .bool(mismatches == 0),
    ])
  }

  private func size(_ pages: Int) -> String { ByteSize.text(UInt64(pages * pageBytes)) }

  private func rate(_ row: Row) -> String {
    guard row.nanoseconds > 0, row.pages > 0 else { return "" }
    return ByteSize.text(UInt64(Double(row.pages * pageBytes) / (Double(row.nanoseconds) / 1e9))) + "/s"
  }

  private static func percentile(_ sorted: [UInt64], _ percent: Int) -> UInt64 {
    sorted[min(sorted.count - 1, sorted.count * percent / 100)]
  }

  private static func micros(_ nanoseconds: UInt64) -> String {
    padded(ByteSize.decimals(Double(nanoseconds) / 1000, 1), -9) + " µs"
  }

  private static func time(_ nanoseconds: UInt64) -> String {
    nanoseconds < 1_000_000_000
      ? ByteSize.decimals(Double(nanoseconds) / 1e6, 1) + " ms" : ByteSize.decimals(Double(nanoseconds) / 1e9, 2) + " s"
  }

  /// - Parameter width: negative to put the spaces before.
  private static func padded(_ text: String, _ width: Int) -> String {
    let spaces = String(repeating: " ", count: max(0, abs(width) - text.count))
    return width < 0 ? spaces + text : text + spaces
  }

  private static let columnWidths = [17, -8, -9, -9, -12, 1, -9, -9, -9, 0]

  private static func line(_ cells: [String]) -> String {
    zip(cells, columnWidths).map { padded($0, $1) }.joined(separator: " ") + "\n"
  }
}
