internal import Adapters

/// The command line's entry: chooses the command, and turns every error into a sentence and an exit code.
@main
struct Main {
  static func main() {
    Console.openWhatIsClosed()
    Console.exit(run(Array(CommandLine.arguments.dropFirst())))
  }

  static func run(_ arguments: [String]) -> Int32 {
    do {
      try dispatch(arguments)
      return Console.hasFailed ? 1 : 0
    } catch {
      report(error, arguments)
      return error is UsageError ? 2 : 1
    }
  }

  /// To people on standard error, to programs (`--json`) on standard output, in the form of the daemon's own refusals.
  private static func report(_ error: any Error, _ arguments: [String]) {
    var report: JSONValue?
    let (code, message): (String, String)
    switch error {
    case let error as UsageError: (code, message) = ("usage", error.message)
    case let error as CommandFailure: (code, message, report) = (error.code, error.message, error.report)
    default: (code, message) = ("failed", "\(error)")
    }
    if arguments.contains("--json") {
      let error: JSONValue = ["code": .string(code), "message": .string(message)]
      return ClientCommands.printJSON(report ?? ["ok": false, "error": error])
    }
    let command = arguments.first { Command.named($0) != nil }.map { " \($0)" } ?? ""
    let advice = error is UsageError ? "Try 'swap-monitor\(command) --help'.\n" : ""
    Console.writeError("swap-monitor: \(message)\n\(advice)")
  }

  private static func dispatch(_ words: [String]) throws {
    guard let name = words.first else { throw UsageError(message: "a command is missing") }
    let rest = Array(words.dropFirst())
    if let command = Command.named(name) { return try command.run(rest) }
    switch name {
    // Not for people: others of our commands start these.
    case "worker": try Serve.runWorker(rest)
    case AttendantService.command: try Serve.runAttendant(rest)
    case "assistant": try Assistant.run(rest)
    case "layout-version": Console.write("\(Keeper.layoutVersion)\n")
    case PatternTenant.command: try PatternTenant.run(rest)
    case PatternTenant.crowdCommand: try PatternTenant.runCrowd(rest)
    case TortureTenant.command: try TortureTenant.run(rest)

    case "--help", "-h", "help":
      Console.write((rest.first.flatMap(Command.named)?.help ?? Help.main) + "\n")
    case "--version" where rest.contains("--json"):
      ClientCommands.printJSON(["ok": true, "version": .string(Defaults.version)])
    case "--version": Console.write("swap-monitor \(Defaults.version)\n")
    case _ where name.hasPrefix("-"):
      guard let command = words.first(where: { Command.named($0) != nil }) else { fallthrough }
      let options = words.filter { $0 != command }
      throw UsageError(
        message: "options come after the command: swap-monitor \(([command] + options).joined(separator: " "))")
    default: throw UsageError(message: "unknown command \"\(name)\"")
    }
  }
}
