internal import Adapters

/// Asks for an operation, and shows on a terminal how far it is while its end is waited for.
///
/// One thread does it all: it waits for the reply, for a status on another connection, and for Ctrl-C at once, so that none
/// of them keeps it from the others.
struct ProgressWatch {
  private let operation: String
  private let tenant: String
  private let client: Client
  /// nil once it has failed: then the time alone is shown, and the operation is none the worse.
  private var watcher: Client?
  private let signals: EndSignals?
  private var awaitsStatus = false
  private var remainingPages = 0
  private var line: ProgressLine

  private static let intervalNanoseconds: UInt64 = 200_000_000
  /// For the first status: what there is to do is known best before it begins, but a slow status does not hold it up.
  private static let patienceNanoseconds: UInt64 = 500_000_000

  /// - Parameters:
  ///   - watcher: another connection of the same user.
  ///   - signals: what interrupts the wait; nil leaves signals as they are.
  init(_ operation: String, tenant: String, client: Client, watcher: Client?, signals: EndSignals? = nil) {
    self.operation = operation
    self.tenant = tenant
    self.client = client
    self.watcher = watcher
    self.signals = signals
    line = ProgressLine(step: operation, pageBytes: 4096)
  }

  /// - Throws: also a refusal.
  mutating func ask(_ request: [String: JSONValue]) throws(CommandFailure) -> JSONValue {
    let clock = SystemClock()
    look()
    if let watcher, !Readable.wait(for: [watcher.descriptor], timeoutNanoseconds: Self.patienceNanoseconds).isEmpty {
      takeStatus()
    }
    try client.send(request)
    line.startNanoseconds = clock.nowNanoseconds
    defer { ProgressLine.erase() }
    var nextLook = line.startNanoseconds + Self.intervalNanoseconds
    while true {
      let now = clock.nowNanoseconds
      if now >= nextLook {
        if awaitsStatus || watcher == nil { draw() }  // the time at least goes on
        look()
        nextLook = now + Self.intervalNanoseconds
      }
      let sources = [client.descriptor, signals?.descriptor, awaitsStatus ? watcher?.descriptor : nil].compactMap { $0 }
      for ready in Readable.wait(for: sources, timeoutNanoseconds: nextLook - now) {
        if ready === client.descriptor { return try Client.accepted(try client.receive()) }
        guard ready === watcher?.descriptor else { throw interrupted }
        takeStatus()
        draw()
      }
    }
  }

  private func draw() { line.draw(pages: (line.expectedPages ?? 0) - remainingPages) }

  private var interrupted: CommandFailure {
    CommandFailure(
      code: CommandFailure.interrupted,
      message: "interrupted; the daemon goes on with it, and 'swap-monitor status \(tenant)' shows how far it is")
  }

  private mutating func look() {
    guard let watcher, !awaitsStatus else { return }
    do throws(CommandFailure) {
      try watcher.send(["op": "status", "tenant": .string(tenant)])
      awaitsStatus = true
    } catch { self.watcher = nil }
  }

  private mutating func takeStatus() {
    guard let watcher else { return }
    awaitsStatus = false
    do throws(CommandFailure) {
      let status = try Client.accepted(try watcher.receive())
      func pages(_ key: String) -> Int { status["metrics"]?[key]?.int ?? 0 }
      // `state_transition` tells of the operation before until this one has begun.
      let examined = status["operation"]?.text == operation ? status["state_transition"]?["examined_pages"]?.int : nil
      let expected = line.expectedPages ?? pages("staging_pages")
      remainingPages =
        switch operation {
        case "enable": pages("resident_pages")
        case "disable", "unregister": pages("staging_pages") + pages("swap_pages")
        case "trim": examined.map { expected - $0 } ?? (line.expectedPages == nil ? expected : remainingPages)
        default: pages("staging_pages")
        }
      line.expectedPages = max(line.expectedPages ?? 0, remainingPages)
      line.pageBytes = status["page_size"]?.int ?? line.pageBytes
    } catch { self.watcher = nil }
  }
}
