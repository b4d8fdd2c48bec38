internal import Adapters

/// `swap-monitor attach`.
enum AttachCommand {
  static func run(_ arguments: Arguments) throws {
    guard let pid = Int32(arguments.words[0]), pid > 0 else {
      throw UsageError(message: "\"\(arguments.words[0])\" is no process's number")
    }
    if let name = arguments.value("name"), !Registration.isName(name) {
      throw UsageError(message: "--name: \"\(name)\"; \(Registration.rightNames)")
    }
    if let mode = arguments.value("freeze"), !["signal", "live"].contains(mode) {
      throw UsageError(message: "--freeze: \"\(mode)\"; signal or live is right")
    }
    var request: [String: JSONValue] = ["op": "attach", "pid": .integer(Int64(pid))]
    if arguments.value("qmp") != nil, let mode = arguments.value("freeze"), mode != "signal" {
      throw UsageError(message: "--qmp: goes with --freeze signal only, not with \(mode); leave one of them out")
    }
    for (option, field) in [("name", "tenant"), ("freeze", "freeze")] {
      if let value = arguments.value(option) { request[field] = .string(value) }
    }
    if let path = arguments.value("qmp") {
      request["qmp"] = .string(path.hasPrefix("/") ? path : "\(Machine.currentDirectory)/\(path)")
    }
    let regions = arguments.values("region")
    if !regions.isEmpty { request["regions"] = .array(regions.map { .string($0) }) }
    if arguments.has("dry-run") { request["dry_run"] = true }
    let reply = try Client(path: arguments.value("socket") ?? Defaults.socketPath()).ask(request)
    if arguments.has("json") { return ClientCommands.printJSON(reply) }
    Console.write(text(reply, pid: pid, isTrial: arguments.has("dry-run")))
  }

  private static func text(_ reply: JSONValue, pid: Int32, isTrial: Bool) -> String {
    let name = reply["tenant"]?.text ?? "?"
    var table = Table(["MEMORY", "ADDRESS", "SIZE", ""], numbers: [2])
    for region in reply["regions"]?.elements ?? [] {
      table.add([
        region["name"]?.text ?? "?", "0x" + String(region["address"]?.int ?? 0, radix: 16),
        ByteSize.text(UInt64(region["size"]?.int ?? 0)),
        region["taken"]?.isTrue == true
          ? (isTrial ? "would be taken" : "taken") : "left: \(region["reason"]?.text ?? "")",
      ])
    }
    if isTrial { return "process \(pid) would become tenant \(name); nothing has been changed\n\(table.text)" }
    return "process \(pid) is tenant \(name) now; it was held for \(reply["held_us"]?.int ?? 0) us\n\(table.text)"
      + "Next: 'swap-monitor enable \(name)' takes its memory out; 'swap-monitor detach \(name)' leaves it as it was\n"
  }
}
