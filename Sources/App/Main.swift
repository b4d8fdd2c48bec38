internal import Adapters

/// The command line's entry: chooses the command, and turns every error into a sentence and an exit code.
@main
struct Main {
  static func main() {
    Console.exit(run(Array(CommandLine.arguments.dropFirst())))
  }

  static func run(_ arguments: [String]) -> Int32 {
    do {
      try dispatch(arguments)
      return Console.hasFailed ? 1 : 0
    } catch let error as UsageError {
      let command = arguments.first.map { Help.commands.contains($0) ? " \($0)" : "" } ?? ""
      Console.writeError("swap-monitor: \(error.message)\nTry 'swap-monitor\(command) --help'.\n")
      return 2
    } catch let error as Client.Failure {
      if let reply = error.reply, arguments.contains("--json") {
        Console.write(String(decoding: reply.bytes, as: UTF8.self) + "\n")
      } else {
        Console.writeError("swap-monitor: \(error.message)\n")
      }
    } catch let error as Serve.Failure {
      Console.writeError("swap-monitor: \(error.message)\n")
    } catch let error as Demo.Failure {
      Console.writeError("swap-monitor: \(error.message)\n")
    } catch {
      Console.writeError("swap-monitor: \(error)\n")
    }
    return 1
  }

  private static func dispatch(_ arguments: [String]) throws {
    guard let command = arguments.first else { throw UsageError(message: "a command is missing") }
    let rest = Array(arguments.dropFirst())
    switch command {
    case "serve": try Serve.run(rest)
    case "demo": try Demo.run(rest)
    case DemoTenant.command: try DemoTenant.run(rest)
    case "list": try ClientCommands.list(rest)
    case "status": try ClientCommands.status(rest)
    case "enable", "trim", "out", "disable": try ClientCommands.command(command, rest)
    case "help" where rest.first.map { Help.commands.contains($0) } == true: try dispatch([rest[0], "--help"])
    case "--help", "-h", "help": Console.write(Help.main + "\n")
    case "--version": Console.write("swap-monitor \(Defaults.version)\n")
    default: throw UsageError(message: "unknown command \"\(command)\"")
    }
  }
}
