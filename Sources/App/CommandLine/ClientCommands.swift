internal import Adapters

/// `list`, `status` and the commands to a tenant.
enum ClientCommands {
  static func list(_ words: [String]) throws {
    let arguments = try Arguments(words, valued: ["socket"], flags: ["json", "help"])
    if arguments.has("help") { return Console.write(Help.list + "\n") }
    try arguments.expectWords(0...0, "")
    let tenants = try client(arguments).list()
    if arguments.has("json") { return printJSON(["ok": true, "tenants": .array(tenants)]) }
    if tenants.isEmpty { return Console.write("no tenants\n") }
    var table = Table(["TENANT", "STATE", "SIZE", "PIDS"])
    for tenant in tenants {
      let pids = (tenant["pids"]?.elements ?? []).compactMap { $0.int.map { "\($0)" } }
      table.add([
        tenant["tenant"]?.text ?? "?", tenant["state"]?.text ?? "?",
        ByteSize.text(UInt64(tenant["size"]?.int ?? 0)), pids.joined(separator: ","),
      ])
    }
    Console.write(table.text)
  }

  static func status(_ words: [String]) throws {
    let arguments = try Arguments(words, valued: ["socket"], flags: ["json", "help"])
    if arguments.has("help") { return Console.write(Help.status + "\n") }
    try arguments.expectWords(0...1, "")
    let client = try client(arguments)
    var replies: [JSONValue] = []
    if let name = arguments.words.first {
      replies = [try client.ask(["op": .string("status"), "tenant": .string(name)])]
    } else {
      for tenant in try client.list() {
        guard let name = tenant["tenant"] else { continue }
        let reply = try client.exchange(["op": .string("status"), "tenant": name])
        if reply["ok"]?.isTrue == true { replies.append(reply) }  // else it has gone since
      }
    }
    if arguments.has("json") {
      return printJSON(arguments.words.isEmpty ? ["ok": true, "tenants": .array(replies)] : replies[0])
    }
    if replies.isEmpty { Console.write("no tenants\n") }
    for reply in replies { Console.write(describe(reply)) }
  }

  static func command(_ name: String, _ words: [String]) throws {
    let flags: Set<String> = ["json", "help", name == "enable" ? "accept-dma-risk" : "no-wait"]
    let arguments = try Arguments(words, valued: ["socket"], flags: flags)
    if arguments.has("help") { return Console.write(Help.command(name) + "\n") }
    try arguments.expectWords(1...1, "\(name) needs a tenant's name; 'swap-monitor list' shows them")
    let request: [String: JSONValue] = [
      "op": .string(name), "tenant": .string(arguments.words[0]), "wait": .bool(!arguments.has("no-wait")),
      "accept_dma_risk": .bool(arguments.has("accept-dma-risk")),
    ]
    let reply = try client(arguments).ask(request)
    if arguments.has("json") { return printJSON(reply) }
    Console.write(describe(reply))
  }

  private static func client(_ arguments: Arguments) throws(Client.Failure) -> Client {
    try Client(path: arguments.value("socket") ?? Defaults.socketPath())
  }

  private static func printJSON(_ value: JSONValue) {
    Console.write(String(decoding: value.bytes, as: UTF8.self) + "\n")
  }

  private static func describe(_ reply: JSONValue) -> String {
    let name = reply["tenant"]?.text ?? "?"
    guard let metrics = reply["metrics"] else { return "\(name): \(reply["state"]?.text ?? "done")\n" }
    let pageBytes = UInt64(reply["page_size"]?.int ?? 4096)
    func pages(_ key: String) -> Int { metrics[key]?.int ?? 0 }
    func amount(_ key: String) -> String { "\(pages(key)) pages (\(ByteSize.text(UInt64(pages(key)) * pageBytes)))" }
    let operation = reply["operation"]?.text.map { ", \($0) runs" } ?? ""
    var text = "\(name): \(reply["state"]?.text ?? "?")\(operation)\n"
    text += "  in the guest      \(amount("resident_pages"))\n"
    text += "  in staging        \(amount("staging_pages"))\n"
    text += "  in the swap file  \(amount("swap_pages"))\n"
    if pages("unreadable_pages") > 0 { text += "  unreadable        \(amount("unreadable_pages"))\n" }
    text += "  faults served     \(pages("copied_from_staging_pages")) from staging, "
    text += "\(pages("copied_from_file_pages")) from the file, \(pages("zeroed_pages")) zero, "
    text += "\(pages("redundant_pages")) redundant\n"
    if let last = reply["state_transition"] {
      let what = reply["operation"]?.text ?? reply["last_operation"]?.text ?? "none"
      text += "  last operation    \(what): \(last["pages"]?.int ?? 0) pages in \(last["time_ms"]?.int ?? 0) ms\n"
    }
    if let failure = reply["failure"] {
      text += "  failure           \(failure["message"]?.text ?? "?") (\(failure["code"]?.text ?? "?"))\n"
    }
    return text
  }
}

/// Columns that line up.
struct Table {
  private var rows: [[String]]

  init(_ header: [String]) { rows = [header] }

  mutating func add(_ row: [String]) { rows.append(row) }

  var text: String {
    let widths = rows[0].indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
    return rows.map { row in
      let cells = zip(row, widths).map { cell, width in cell + String(repeating: " ", count: width - cell.count) }
      return cells.joined(separator: "  ").trimmingTrailingSpaces + "\n"
    }.joined()
  }
}

extension String {
  fileprivate var trimmingTrailingSpaces: String {
    var text = self[...]
    while text.last == " " { text = text.dropLast() }
    return String(text)
  }
}
