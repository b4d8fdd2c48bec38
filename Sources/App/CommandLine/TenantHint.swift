/// What to say when there is no tenant of the name asked for.
enum TenantHint {
  private static let namesShown = 10
  /// Slips of the finger within which a name may have been meant.
  private static let slips = 2

  static func text(for name: String, among names: [String]) -> String {
    let start = "there is no tenant \"\(name)\""
    if names.isEmpty {
      return
        "\(start), and no other that you may see: none has registered, and none was attached to (see attach --help)"
    }
    let near = names.map { (name: $0, slips: distance(name, $0)) }.min { $0.slips < $1.slips }
    let guess =
      near.flatMap { $0.slips <= slips && $0.slips < name.count ? "; did you mean \"\($0.name)\"?" : nil } ?? "."
    let more = names.count > namesShown ? " and \(names.count - namesShown) more" : ""
    return "\(start)\(guess) Tenants: \(names.prefix(namesShown).joined(separator: ", "))\(more)"
  }

  /// Levenshtein's: letters to insert, drop or replace.
  static func distance(_ one: String, _ other: String) -> Int {
    let letters = Array(other.utf8)
    var row = Array(0...letters.count)
    for letter in one.utf8 {
      var diagonal = row[0]
      row[0] += 1
      for column in letters.indices {
        let replaced = diagonal + (letters[column] == letter ? 0 : 1)
        diagonal = row[column + 1]
        row[column + 1] = min(replaced, diagonal + 1, row[column] + 1)
      }
    }
    return row[letters.count]
  }
}
