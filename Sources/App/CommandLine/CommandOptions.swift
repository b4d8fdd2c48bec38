/// The options of a command: those that its help tells of, and --help itself.
struct CommandOptions {
  let valued: Set<String>
  let flags: Set<String>

  /// What only our own processes and tests use, and nobody is told of.
  static let hidden = (valued: ["torture": "canary"], flags: ["serve": "activated"])

  init(of command: String) {
    let options = HelpText(Help.text(of: command)).options
    valued = Set(options.filter { $0.value != nil }.map(\.name) + [Self.hidden.valued[command]].compactMap { $0 })
    flags = Set(
      options.filter { $0.value == nil }.map(\.name) + [Self.hidden.flags[command], "help"].compactMap { $0 })
  }

  /// Commands whose first word is a tenant's name.
  static let takeTenant: Set<String> = ["status", "enable", "trim", "out", "disable", "unregister", "detach"]
}

extension Arguments {
  init(_ words: [String], of command: String) throws(UsageError) {
    let options = CommandOptions(of: command)
    try self.init(words, valued: options.valued, flags: options.flags)
  }

  /// - Parameters:
  ///   - count: how many words there may be besides options.
  ///   - lack: what to say where there are less.
  init(_ words: [String], of command: String, takes count: ClosedRange<Int>, lack: String = "") throws(UsageError) {
    try self.init(words, of: command)
    try expectWords(count, lack)
  }
}
