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
    var reply: JSONValue?
    let (code, message): (String, String)
    switch error {
    case let error as UsageError: (code, message) = ("usage", error.message)
    case let error as Client.Failure: (code, message, reply) = (error.code, error.message, error.reply)
    case let error as Serve.Failure: (code, message) = ("failed", error.message)
    case let error as CommandFailure: (code, message, reply) = ("failed", error.message, error.report)
    default: (code, message) = ("failed", "\(error)")
    }
    if arguments.contains("--json") {
      let error: JSONValue = ["code": .string(code), "message": .string(message)]
      return ClientCommands.printJSON(reply ?? ["ok": false, "error": error])
    }
    let command = arguments.first.map { Help.commands.contains($0) ? " \($0)" : "" } ?? ""
    let advice = error is UsageError ? "Try 'swap-monitor\(command) --help'.\n" : ""
    Console.writeError("swap-monitor: \(message)\n\(advice)")
  }

  private static func dispatch(_ arguments: [String]) throws {
    guard let command = arguments.first else { throw UsageError(message: "a command is missing") }
    let rest = Array(arguments.dropFirst())
    if Help.commands.contains(command), try Arguments(rest, of: command).has("help") {
      return Console.write(Help.text(of: command) + "\n")
    }
    switch command {
    case "serve": try Serve.run(rest)
    case "worker": try Serve.runWorker(rest)
    case AttendantService.command: try Serve.runAttendant(rest)
    case "check-sandbox": try SandboxCheck.run(rest)
    case "assistant": try Assistant.run(rest)
    case "layout-version": Console.write("\(Keeper.layoutVersion)\n")
    case "demo": try Demo.run(rest)
    case PatternTenant.command: try PatternTenant.run(rest)
    case "torture": try Torture.run(rest)
    case TortureTenant.command: try TortureTenant.run(rest)
    case "bench": try Bench.run(rest)
    case PatternTenant.crowdCommand: try PatternTenant.runCrowd(rest)
    case "list": try ClientCommands.list(rest)
    case "status": try ClientCommands.status(rest)
    case "upgrade": try ClientCommands.upgrade(rest)
    case "install": try Install.run(rest)
    case "enable", "trim", "out", "disable", "unregister", "detach": try ClientCommands.command(command, rest)
    case "attach": try AttachCommand.run(rest)
    case "help" where rest.first.map { Help.commands.contains($0) } == true: try dispatch([rest[0], "--help"])
    case "--help", "-h", "help": Console.write(Help.main + "\n")
    case "--version" where rest.contains("--json"):
      ClientCommands.printJSON(["ok": true, "version": .string(Defaults.version)])
    case "--version": Console.write("swap-monitor \(Defaults.version)\n")
    default: throw UsageError(message: "unknown command \"\(command)\"")
    }
  }
}
