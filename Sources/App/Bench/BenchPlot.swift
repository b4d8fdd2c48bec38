/// A bar for each row: how close ours comes to the limit, which is 1; where the mark is, and where the reference was.
struct BenchPlot {
  private let report: BenchReport
  private static let (left, width, barHeight, rowHeight, top) = (200.0, 520.0, 12.0, 22.0, 54.0)
  /// What is longer than the image is cut.
  private static let longest = 1.3

  init(_ report: BenchReport) { self.report = report }

  var svg: String {
    let rows = report.rows.filter { $0.figures.ratio($0.row) != nil }
    let height = Self.top + Double(rows.count) * Self.rowHeight + 16
    let (end, bottom) = (Self.left + Self.width + 90, height - 12)
    var lines = [
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 \(Int(end)) \(Int(height))\" font-family=\"sans-serif\" font-size=\"12\">",
      "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>",
      Self.text(10, 18, "How close each kind of work comes to what this machine can do (right line: the limit)"),
      Self.text(10, 36, "blue: swap-monitor, black line: the mark asked, red dot: the reference on its machine"),
    ]
    for (number, (row, figures)) in rows.enumerated() {
      guard let ratio = figures.ratio(row) else { continue }
      let y = Self.top + Double(number) * Self.rowHeight
      // Of times, the shorter one is better: so that longer bars always are.
      func share(_ ratio: Double) -> Double { row.moreIsBetter ? ratio : 1 / ratio }
      let colour = figures.holds(row) == false ? "#9ab8dc" : "#2f6db5"
      lines.append(Self.text(10, y + 10, row.name))
      lines.append(
        "<rect x=\"\(Self.left)\" y=\"\(y)\" width=\"\(Self.length(share(ratio)))\" height=\"\(Self.barHeight)\" fill=\"\(colour)\"/>"
      )
      if let mark = row.mark { lines.append(Self.line(Self.left + Self.length(share(mark)), y - 3, y + 15, "black")) }
      if let reference = row.reference, let limit = row.referenceLimit {
        let x = Self.left + Self.length(share(reference / limit))
        lines.append("<circle cx=\"\(x)\" cy=\"\(y + 6)\" r=\"4\" fill=\"#c43\"/>")
      }
      lines.append(
        Self.text(Self.left + Self.width + 6, y + 10, "\(BenchReport.short(figures.ours.median)) \(row.unit.rawValue)"))
    }
    lines.append(Self.line(Self.left + Self.length(1), Self.top - 8, bottom, "#888"))
    lines.append(Self.line(Self.left, Self.top - 8, bottom, "#888"))
    return (lines + ["</svg>", ""]).joined(separator: "\n")
  }

  private static func length(_ share: Double) -> Double { (min(share, longest) / longest * width * 10).rounded() / 10 }

  private static func text(_ x: Double, _ y: Double, _ text: String) -> String {
    "<text x=\"\(x)\" y=\"\(y)\">\(text)</text>"
  }

  private static func line(_ x: Double, _ top: Double, _ bottom: Double, _ colour: String) -> String {
    "<line x1=\"\(x)\" y1=\"\(top)\" x2=\"\(x)\" y2=\"\(bottom)\" stroke=\"\(colour)\"/>"
  }
}
