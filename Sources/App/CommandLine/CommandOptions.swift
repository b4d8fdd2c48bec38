/// The options of the commands, as they are parsed. Tests compare help, manual and completions with them.
struct CommandOptions {
  let valued: Set<String>
  let flags: Set<String>

  /// Besides --help, which all have.
  private init(valued: Set<String> = [], flags: Set<String> = []) {
    self.valued = valued
    self.flags = flags.union(["help"])
  }

  static func of(_ command: String) -> CommandOptions {
    switch command {
    case "serve":
      CommandOptions(
        valued: [
          "socket", "socket-mode", "socket-group", "swap-dir", "keep-free", "staging-limit", "swap-limit",
          "swap-total-limit", "log-level",
        ],
        flags: ["end-with-parent", "activated", "no-sandbox"])
    case "demo": CommandOptions(valued: ["memory", "swap-dir"], flags: ["json"])
    case "torture":
      CommandOptions(
        valued: ["seconds", "memory", "seed", "patience", "swap-dir", "log-level", "canary"],
        flags: ["no-kill", "live", "stalls", "disk-trouble", "json"])
    case "bench":
      CommandOptions(valued: ["memory", "runs", "zero-run", "swap-dir", "only", "compare", "plot"], flags: ["json"])
    case "attach":
      CommandOptions(valued: ["socket", "name", "freeze", "qmp", "region"], flags: ["dry-run", "json"])
    case "check-sandbox": CommandOptions(flags: ["json"])
    case "install": CommandOptions(valued: ["prefix", "root"], flags: ["dry-run", "uninstall", "json"])
    case "status": CommandOptions(valued: ["socket", "interval"], flags: ["json", "watch"])
    case "enable":
      CommandOptions(valued: ["socket"], flags: ["json", "accept-dma-risk", "accept-strange-mappings"])
    case "disable": CommandOptions(valued: ["socket"], flags: ["json", "no-wait", "slow-file-cleanup"])
    case "trim", "out": CommandOptions(valued: ["socket"], flags: ["json", "no-wait"])
    default: CommandOptions(valued: ["socket"], flags: ["json"])
    }
  }

  /// What only our own processes and tests use, and nobody is told of.
  static let hidden: Set<String> = ["canary", "activated"]

  /// Commands whose first word is a tenant's name.
  static let takeTenant: Set<String> = ["status", "enable", "trim", "out", "disable", "unregister", "detach"]
}

extension Arguments {
  init(_ words: [String], of command: String) throws(UsageError) {
    let options = CommandOptions.of(command)
    try self.init(words, valued: options.valued, flags: options.flags)
  }
}
