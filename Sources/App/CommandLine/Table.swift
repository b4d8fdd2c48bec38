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
        let spaces = String(repeating: " ", count: widths[column] - row[column].count)
        return numbers.contains(column) ? spaces + row[column] : row[column] + spaces
      }.joined(separator: "  ")[...]
      while line.last == " " { line = line.dropLast() }
      return line + "\n"
    }.joined()
  }
}
