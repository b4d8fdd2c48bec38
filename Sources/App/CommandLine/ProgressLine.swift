internal import Adapters

/// How far a long step is, as one line that is drawn over itself.
struct ProgressLine {
  let step: String
  var pageBytes: Int
  /// What there is to do, in pages, where that is known.
  var expectedPages: Int?
  /// Of `SystemClock`.
  var startNanoseconds = SystemClock().nowNanoseconds

  /// What is over sooner needs no progress.
  static let delayNanoseconds: UInt64 = 500_000_000
  private static let widestBar = 30
  private static let narrowestBar = 5
  /// What stands besides the bar and the step at the most, so that the bar's length does not change with the figures.
  private static let otherColumns = "    []  100 %  1023 MiB of 1023 MiB  9999 MiB/s  999.9 s ".count

  /// - Parameter columns: the line is shorter, as the cursor stands behind it.
  func text(pages: Int, nanoseconds: UInt64, columns: Int) -> String {
    let seconds = Double(nanoseconds) / 1e9
    let time = "\(ByteSize.decimals(seconds, 1)) s"
    guard let expected = expectedPages, expected > 0 else { return String("  \(step)  \(time)".prefix(columns - 1)) }
    let done = min(max(pages, 0), expected)
    let rate = ByteSize.decimals(Double(done * pageBytes) / Double(1 << 20) / max(seconds, 0.001), 0)
    let figures = "\(size(done)) of \(size(expected))  \(rate) MiB/s  \(time)"
    let percent = "\(done * 100 / expected)"
    let width = min(Self.widestBar, columns - step.count - Self.otherColumns)
    var bar = ""
    if width >= Self.narrowestBar {
      let filled = width * done / expected
      bar = "[\(String(repeating: "=", count: filled))\(String(repeating: " ", count: width - filled))]  "
    }
    let space = String(repeating: " ", count: 3 - percent.count)
    return String("  \(step)  \(bar)\(space)\(percent) %  \(figures)".prefix(columns - 1))
  }

  /// Draws the line, where standard output is a terminal and the step has taken its time.
  func draw(pages: Int) {
    let nanoseconds = SystemClock().nowNanoseconds - startNanoseconds
    guard nanoseconds >= Self.delayNanoseconds, Console.isTerminal else { return }
    Console.write("\r\(text(pages: pages, nanoseconds: nanoseconds, columns: Console.terminalSize.columns))\u{1B}[K")
  }

  /// Leaves an empty line, the cursor at its begin.
  static func erase() { if Console.isTerminal { Console.write("\r\u{1B}[K") } }

  private func size(_ pages: Int) -> String { ByteSize.text(UInt64(pages * pageBytes)) }
}
