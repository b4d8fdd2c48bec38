internal import Adapters

/// A command of the command line, for people.
struct Command: Sendable {
  let name: String
  /// What it says of itself, and so what its options are.
  let help: String
  /// How many words there may be besides options.
  private var wordCount = 0...0
  /// What to say where there are less.
  private var lack = ""
  /// An option that only our own processes and tests use, and nobody is told of.
  private var hidden: (flag: String?, valued: String?) = (nil, nil)
  private let body: @Sendable (Arguments) throws -> Void

  private init(_ name: String, _ help: String, _ body: @escaping @Sendable (Arguments) throws -> Void) {
    (self.name, self.help, self.body) = (name, help, body)
  }

  /// Of those whose first word is a tenant's name.
  private static func ofTenant(_ name: String, _ help: String) -> Command {
    var command = Command(name, help) { try ClientCommands.command(name, $0) }
    command.wordCount = 1...1
    command.lack = "\(name) needs a tenant's name; 'swap-monitor list' shows them"
    return command
  }

  private func taking(
    _ count: ClosedRange<Int> = 0...0, lack: String = "", hiddenFlag: String? = nil, hiddenOption: String? = nil
  ) -> Command {
    var command = self
    (command.wordCount, command.lack, command.hidden) = (count, lack, (hiddenFlag, hiddenOption))
    return command
  }

  static let serve = Command("serve", Help.serve, Serve.run).taking(hiddenFlag: "activated")

  static let all: [Command] = [
    Command("demo", Help.demo, Demo.run),
    Command("torture", Help.torture, Torture.run).taking(hiddenOption: "canary"),
    Command("bench", Help.bench, Bench.run), serve,
    Command("attach", Help.attach, AttachCommand.run).taking(
      1...1, lack: "attach needs a process's number, such as that of a QEMU (pgrep -f qemu-system)"),
    ofTenant("detach", Help.detach),
    Command("list", Help.list, ClientCommands.list),
    Command("status", Help.status, ClientCommands.status).taking(0...1),
    ofTenant("enable", Help.enable), ofTenant("trim", Help.trim), ofTenant("out", Help.out),
    ofTenant("disable", Help.disable), ofTenant("unregister", Help.unregister),
    Command("upgrade", Help.upgrade, ClientCommands.upgrade),
    Command("install", Help.install, Install.run),
    Command("check-sandbox", Help.checkSandbox, SandboxCheck.run),
  ]

  static func named(_ name: String) -> Command? { all.first { $0.name == name } }

  /// - Parameter words: what follows its name.
  func run(_ words: [String]) throws {
    let arguments = try Arguments(words, of: self)
    if arguments.has("help") { return Console.write(help + "\n") }
    try arguments.expectWords(wordCount, lack)
    try body(arguments)
  }

  /// Names of all options that are taken.
  var options: (valued: Set<String>, flags: Set<String>) {
    let told = HelpText(help).options
    return (
      Set(told.filter { $0.value != nil }.map(\.name) + [hidden.valued].compactMap { $0 }),
      Set(told.filter { $0.value == nil }.map(\.name) + ["help"] + [hidden.flag].compactMap { $0 })
    )
  }
}

extension Arguments {
  init(_ words: [String], of command: Command) throws(UsageError) {
    let options = command.options
    try self.init(words, valued: options.valued, flags: options.flags)
  }
}
