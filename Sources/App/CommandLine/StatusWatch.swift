internal import Adapters

/// `status --watch`: looks again and again, until Ctrl-C ends it, or what is watched is gone.
struct StatusWatch {
  /// nil watches all tenants.
  let tenant: String?
  let printsJSON: Bool
  let intervalNanoseconds: UInt64

  func run(_ unwatched: Client) throws {
    let signals = try EndSignals()
    let clock = SystemClock()
    var client = unwatched
    client.signals = signals
    var rates = FaultRates()
    var hasShown = false
    do throws(CommandFailure) {
      repeat {
        let replies = try ClientCommands.statuses(client, tenant)
        rates.look(replies, atNanoseconds: clock.nowNanoseconds)
        show(replies, rates, isFirst: !hasShown)
        hasShown = true
      } while !Console.hasFailed
        && Readable.wait(for: [signals.descriptor], timeoutNanoseconds: intervalNanoseconds).isEmpty
    } catch {
      if error.code == CommandFailure.interrupted { return }
      guard hasShown, error.code == "no-such-tenant", let tenant else { throw error }
      throw CommandFailure(
        code: error.code,
        message: "the tenant \(tenant) is gone: it has been unregistered, or its processes have ended",
        report: error.report)
    }
  }

  private func show(_ replies: [JSONValue], _ rates: FaultRates, isFirst: Bool) {
    if printsJSON { return ClientCommands.printJSON(ClientCommands.json(replies, of: tenant)) }
    var text = Console.timestamp() + "\n"
    text +=
      tenant == nil
      ? StatusText.table(replies, rates: rates.perSecond)
      : replies.map { StatusText.block($0, rate: $0["tenant"]?.text.flatMap { rates.perSecond[$0] }) }.joined()
    text += ClientCommands.warnings(replies)
    guard Console.isTerminal else { return Console.write((isFirst ? "" : "\n") + text) }
    // Line by line over what stands there, which flickers less than an empty screen would; what does not fit is cut.
    let (columns, rows) = Console.terminalSize
    let lines = text.split(separator: "\n").prefix(rows - 1).map { "\($0.prefix(columns - 1))\u{1B}[K\n" }
    Console.write((isFirst ? "\u{1B}[2J" : "") + "\u{1B}[H\(lines.joined())\u{1B}[J")
  }
}

/// Faults a second between two looks at the tenants' status.
struct FaultRates {
  private var counts: [String: Int] = [:]
  private var lookNanoseconds: UInt64 = 0
  /// By tenant; of those that were there at the look before.
  private(set) var perSecond: [String: Double] = [:]

  mutating func look(_ replies: [JSONValue], atNanoseconds now: UInt64) {
    let seconds = Double(now - lookNanoseconds) / 1e9
    let former = counts
    counts = [:]
    perSecond = [:]
    for reply in replies {
      guard let name = reply["tenant"]?.text else { continue }
      let count = StatusText.faults(reply)
      counts[name] = count
      guard let before = former[name], seconds > 0 else { continue }
      perSecond[name] = Double(count < before ? count : count - before) / seconds  // `enable` counts anew
    }
    lookNanoseconds = now
  }
}
