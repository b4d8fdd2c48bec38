/// Columns that line up. Cells are ASCII, as tenants' names are.
struct Table {
  private var rows: [[String]]
  private let numbers: Set<Int>

  /// - Parameter numbers: the columns whose cells stand at the right.
  init(_ header: [String], numbers: Set<Int> = []) {
    rows = [header]
    self.numbers = numbers
  }

  mutating func add(_ row: [String]) { rows.append(row) }

  var text: String {
    let widths = rows[0].indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
    return rows.map { row in
      var line = row.indices.map { column in
        Self.padded(row[column], numbers.contains(column) ? -widths[column] : widths[column])
      }.joined(separator: "  ")[...]
      while line.last == " " { line = line.dropLast() }
      return line + "\n"
    }.joined()
  }

  /// - Parameter width: negative to put the spaces before.
  static func padded(_ text: String, _ width: Int) -> String {
    let spaces = String(repeating: " ", count: max(0, abs(width) - text.count))
    return width < 0 ? spaces + text : text + spaces
  }
}
