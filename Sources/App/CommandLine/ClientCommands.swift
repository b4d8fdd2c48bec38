internal import Adapters

/// `list`, `status` and the commands to a tenant.
enum ClientCommands {
  static func list(_ arguments: Arguments) throws {
    let tenants = try client(arguments).list()
    if arguments.has("json") { return printJSON(json(tenants, of: nil)) }
    if tenants.isEmpty { return Console.write("no tenants\n") }
    var table = Table(["TENANT", "STATE", "SIZE", "PIDS"], numbers: [2])
    for tenant in tenants {
      let pids = (tenant["pids"]?.elements ?? []).compactMap { $0.int.map { "\($0)" } }
      table.add([
        tenant["tenant"]?.text ?? "?", tenant["state"]?.text ?? "?",
        ByteSize.text(UInt64(tenant["size"]?.int ?? 0)), pids.joined(separator: ","),
      ])
    }
    Console.write(table.text)
  }

  static func status(_ arguments: Arguments) throws {
    let interval = try arguments.seconds("interval", 0.1...86_400)
    let tenant = arguments.words.first
    let client = try client(arguments)
    if arguments.has("watch") || interval != nil {
      let watch = StatusWatch(
        tenant: tenant, printsJSON: arguments.has("json"), intervalNanoseconds: interval ?? 1_000_000_000)
      return try watch.run(client)
    }
    let replies = try statuses(client, tenant)
    Console.writeError(warnings(replies))
    if arguments.has("json") { return printJSON(json(replies, of: tenant)) }
    Console.write(tenant == nil ? StatusText.table(replies) : replies.map { StatusText.block($0) }.joined())
  }

  static func upgrade(_ arguments: Arguments) throws {
    let reply = try client(arguments).ask(["op": "upgrade"])
    if arguments.has("json") { return printJSON(reply) }
    Console.write("the daemon runs swap-monitor \(reply["version"]?.text ?? "?") now\n")
  }

  /// The fields of a request that flags of the command line set.
  private static let switches = [
    "accept-dma-risk": "accept_dma_risk", "slow-file-cleanup": "slow_file_cleanup",
    "accept-strange-mappings": "accept_strange_mappings",
  ]

  static func command(_ name: String, _ arguments: Arguments) throws {
    let (tenant, waits) = (arguments.words[0], !arguments.has("no-wait"))
    var request: [String: JSONValue] = [
      "op": .string(name == "detach" ? "unregister" : name), "tenant": .string(tenant), "wait": .bool(waits),
    ]
    for (flag, field) in switches where arguments.has(flag) { request[field] = true }
    let reply = try ask(name, tenant, request, arguments)
    Console.writeError(warnings([reply]))
    if arguments.has("json") { return printJSON(reply) }
    Console.write(
      request["op"] == "unregister" ? "\(tenant): everything is back, and it is forgotten\n" : StatusText.block(reply))
  }

  private static func ask(
    _ name: String, _ tenant: String, _ request: [String: JSONValue], _ arguments: Arguments
  ) throws -> JSONValue {
    let client = try client(arguments)
    if name == "detach" { try checkAttached(tenant, client) }
    let showsProgress = request["wait"] == true && !arguments.has("json") && Console.isTerminal
    let signals = showsProgress ? try EndSignals() : nil
    do throws(CommandFailure) {
      guard showsProgress else { return try client.ask(request) }
      let watcher = attempt { try Self.client(arguments) }  // without it no figures are shown
      var progress = ProgressWatch(name, tenant: tenant, client: client, watcher: watcher, signals: signals)
      return try progress.ask(request)
    } catch { throw explained(error, tenant, client) }
  }

  /// Who registered by itself would not know that it is no tenant any more.
  private static func checkAttached(_ name: String, _ client: Client) throws {
    guard let tenant = try client.list().first(where: { $0["tenant"]?.text == name }) else { return }
    guard tenant["attached"]?.isTrue == true else {
      throw CommandFailure(
        message:
          "tenant \(name) was not attached to, it registered by itself: it ends when it asks for that, or closes "
          + "its connection; 'swap-monitor unregister \(name)' ends it all the same")
    }
  }

  // MARK: What they share

  /// - Parameter tenant: nil for those of all.
  static func statuses(_ client: Client, _ tenant: String?) throws(CommandFailure) -> [JSONValue] {
    if let tenant {
      do throws(CommandFailure) { return [try client.ask(["op": "status", "tenant": .string(tenant)])] } catch {
        throw explained(error, tenant, client)
      }
    }
    var replies: [JSONValue] = []
    for tenant in try client.list() {
      guard let name = tenant["tenant"] else { continue }
      let reply = try client.exchange(["op": "status", "tenant": name])
      if reply["ok"]?.isTrue == true { replies.append(reply) }  // else it has gone since
    }
    return replies
  }

  static func json(_ replies: [JSONValue], of tenant: String?) -> JSONValue {
    tenant == nil ? ["ok": true, "tenants": .array(replies)] : replies[0]
  }

  static func printJSON(_ value: JSONValue) { Console.write(String(decoding: value.bytes, as: UTF8.self) + "\n") }

  /// What the daemon warns of, a line each.
  static func warnings(_ replies: [JSONValue]) -> String {
    replies.flatMap { $0["warnings"]?.elements ?? [] }.compactMap { $0.text.map { "warning: \($0)\n" } }.joined()
  }

  private static func client(_ arguments: Arguments) throws(CommandFailure) -> Client {
    try Client(path: arguments.value("socket") ?? Defaults.socketPath())
  }

  /// A refusal with what to do next.
  private static func explained(_ refusal: CommandFailure, _ tenant: String, _ client: Client) -> CommandFailure {
    var (message, reply) = (refusal.message, refusal.report)
    if refusal.code == "no-such-tenant" {
      if let names = attempt({ try client.list() })?.compactMap({ $0["tenant"]?.text }) {
        message = TenantHint.text(for: tenant, among: names)
        reply?["tenants"] = .array(names.map { .string($0) })
      }
    } else if let state = refusal.report?["error"]?["state"]?.text, ["Ready", "Active"].contains(state) {
      message += ". Ask 'swap-monitor enable \(tenant)' first"
    } else if let flag = switches.first(where: { message.contains("\"\($0.value)\": true") })?.key {
      message += ". On the command line that is --\(flag)"
    }
    return CommandFailure(code: refusal.code, message: message, report: reply)
  }
}
