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
      return 0
    } catch let error as UsageError {
      Console.writeError("swap-monitor: \(error.message)\nTry 'swap-monitor --help'.\n")
      return 2
    } catch let error as Client.Failure {
      Console.writeError("swap-monitor: \(error.message)\n")
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
    case "--help", "-h", "help": Console.write(Help.main + "\n")
    case "--version": Console.write("swap-monitor \(Defaults.version)\n")
    default: throw UsageError(message: "unknown command \"\(command)\"")
    }
  }
}
