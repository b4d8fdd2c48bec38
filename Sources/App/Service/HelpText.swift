/// A help text taken apart, so that the manual and the completions say what it says.
struct HelpText {
  enum Block: Equatable {
    case paragraph(String)
    /// An option or command, and what it does.
    case entry(term: String, text: String)
    case example(String)
  }

  struct Option: Equatable {
    /// Without its dashes.
    let name: String
    /// What its value is called; nil for a flag.
    let value: String?
    let text: String

    /// The first part of the text, for completions.
    var summary: String {
      var end = text.endIndex
      for mark in ["; ", ": ", " (", ". "] { end = min(end, text.index(of: mark) ?? end) }
      return String(text[..<end])
    }
  }

  /// After "Usage: ".
  private(set) var usage = ""
  private(set) var blocks: [Block] = []

  init(_ text: String) {
    var continues = false
    for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
      let indentation = line.prefix { $0 == " " }.count
      let words = String(line.dropFirst(indentation))
      defer { continues = !words.isEmpty }
      if words.isEmpty { continue }
      if let rest = words.dropping(prefix: "Usage: ") {
        usage = rest
      } else if indentation == 2 && words.hasPrefix("swap-monitor ") {
        blocks.append(.example(words))
      } else if indentation == 2, let gap = words.index(of: "  ") {
        let text = String(words[gap...].drop { $0 == " " })
        blocks.append(.entry(term: String(words[..<gap]), text: text))
      } else if continues, let last = blocks.last, let longer = last.continued(words) {
        blocks[blocks.count - 1] = longer
      } else {
        blocks.append(.paragraph(words))
      }
    }
  }

  /// Those of the usage line too, some of which need no more words; in their order.
  var options: [Option] {
    var options = blocks.compactMap { block -> Option? in
      guard case .entry(let term, let text) = block else { return nil }
      return Self.option(term, text)
    }
    for part in usage.split(separator: "[").dropFirst() {
      guard let end = part.firstIndex(of: "]"), let option = Self.option(String(part[..<end]), nil),
        !options.contains(where: { $0.name == option.name })
      else { continue }
      options.append(option)
    }
    return options
  }

  /// Of what is the same everywhere, and not told again by each command.
  private static let commonTexts = ["socket": "the daemon's socket", "json": "answer with one JSON object"]

  private static func option(_ term: String, _ text: String?) -> Option? {
    guard let words = term.dropping(prefix: "--")?.split(separator: " "), let name = words.first else { return nil }
    return Option(
      name: String(name), value: words.count > 1 ? String(words[1]) : nil,
      text: text ?? commonTexts[String(name)] ?? "")
  }
}

extension HelpText.Block {
  fileprivate func continued(_ line: String) -> HelpText.Block? {
    switch self {
    case .paragraph(let text): .paragraph(text + "\n" + line)
    case .entry(let term, let text): .entry(term: term, text: text + " " + line)
    case .example: nil
    }
  }
}

extension StringProtocol {
  fileprivate func dropping(prefix: String) -> String? {
    hasPrefix(prefix) ? String(dropFirst(prefix.count)) : nil
  }

  fileprivate func index(of words: String) -> Index? { indices.first { self[$0...].hasPrefix(words) } }
}
