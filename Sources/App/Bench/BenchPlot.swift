/// A bar for each row: how close ours comes to the limit, which is 1; where the mark is, and where the reference was.
struct BenchPlot {
  private let report: BenchReport
  private static let (left, width, right, rowHeight, top) = (230.0, 520.0, 200.0, 32.0, 96.0)
  /// What is longer than the image is cut.
  private static let longest = 1.3

  init(_ report: BenchReport) { self.report = report }

  var svg: String {
    let rows = report.rows.filter { $0.figures.ratio($0.row) != nil }
    let bottom = Self.top + Double(rows.count) * Self.rowHeight
    let (imageWidth, imageHeight) = (Int(Self.left + Self.width + Self.right), Int(bottom) + 28)
    var shapes = [
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 \(imageWidth) \(imageHeight)\" width=\"\(imageWidth)\" height=\"\(imageHeight)\" font-family=\"sans-serif\">",
      "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>",
      Self.text(12, 24, "swap-monitor: how close each kind of work comes to what this machine can do", size: 16),
      Self.text(12, 42, report.setting, size: 10, colour: "#555"),
    ]
    let legend = [
      (Self.bar(14, 54, 18, holds: true), "reaches the mark"), (Self.bar(174, 54, 18, holds: false), "misses it"),
      (Self.line(304, 52, 68, "black", width: 2), "the mark"),
      (Self.dot(414, 60), "the reference, beside its own machine's limit"),
    ]
    for ((shape, what), x) in zip(legend, [38.0, 198, 314, 426]) { shapes += [shape, Self.text(x, 65, what)] }
    for step in 0...5 {
      let x = Self.left + Self.length(Double(step) / 4)
      let label = step == 4 ? "1 = the limit" : ByteSize.decimals(Double(step) / 4, 2)
      shapes.append(Self.line(x, Self.top - 6, bottom, step == 4 ? "#555" : "#ddd"))
      for y in [Self.top - 10, bottom + 16] { shapes.append(Self.text(x, y, label, size: 10, anchor: "middle")) }
    }
    for (number, (row, figures)) in rows.enumerated() {
      shapes += Self.row(row, figures, Self.top + Double(number) * Self.rowHeight)
    }
    return (shapes + ["</svg>", ""]).joined(separator: "\n")
  }

  private static func row(_ row: BenchRow, _ figures: BenchFigures, _ y: Double) -> [String] {
    guard let ratio = figures.ratio(row), let limit = figures.limit(row) else { return [] }
    // Of times, the shorter one is better: so that longer bars always are.
    func place(_ ratio: Double) -> Double { left + length(row.moreIsBetter ? ratio : 1 / ratio) }
    var shapes = [
      text(left - 8, y + 14, row.name, anchor: "end"),
      text(left - 8, y + 25, row.what, size: 9, colour: "#777", anchor: "end"),
      bar(left, y + 7, place(ratio) - left, holds: figures.holds(row) != false),
      text(
        left + width + 8, y + 18,
        "\(BenchReport.short(figures.ours.median)) of \(BenchReport.short(limit.series.median)) \(row.unit.rawValue)"),
    ]
    if let mark = row.mark { shapes.append(line(place(mark), y + 3, y + 25, "black", width: 2)) }
    if let reference = row.reference, let limit = row.referenceLimit {
      shapes.append(dot(place(reference / limit), y + 14))
    }
    return shapes
  }

  private static func length(_ share: Double) -> Double { (min(share, longest) / longest * width * 10).rounded() / 10 }

  private static func text(
    _ x: Double, _ y: Double, _ text: String, size: Int = 12, colour: String = "black", anchor: String = "start"
  ) -> String {
    let escaped = text.map { $0 == "&" ? "&amp;" : $0 == "<" ? "&lt;" : String($0) }.joined()
    return
      "<text x=\"\(x)\" y=\"\(y)\" font-size=\"\(size)\" fill=\"\(colour)\" text-anchor=\"\(anchor)\">\(escaped)</text>"
  }

  private static func bar(_ x: Double, _ y: Double, _ length: Double, holds: Bool) -> String {
    "<rect x=\"\(x)\" y=\"\(y)\" width=\"\(length)\" height=\"14\" fill=\"\(holds ? "#2f6db5" : "#9ab8dc")\"/>"
  }

  private static func line(_ x: Double, _ top: Double, _ bottom: Double, _ colour: String, width: Int = 1) -> String {
    "<line x1=\"\(x)\" y1=\"\(top)\" x2=\"\(x)\" y2=\"\(bottom)\" stroke=\"\(colour)\" stroke-width=\"\(width)\"/>"
  }

  private static func dot(_ x: Double, _ y: Double) -> String {
    "<circle cx=\"\(x)\" cy=\"\(y)\" r=\"5\" fill=\"#c43\" stroke=\"white\"/>"
  }
}
