internal import Adapters
internal import Domain

/// The control thread: connections, requests, life cycles. It never waits for a disk, a tenant or a lock that is held long;
/// long work runs on the tenants' own threads.
final class Server {
  private enum Token {
    static let listener: UInt64 = 0
    static let signals: UInt64 = 1
    static let mailbox: UInt64 = 2
    static let keeper: UInt64 = 3
    static let attendant: UInt64 = 4
    static let first: UInt64 = 16
  }

  let shared: LinuxPorts.Shared
  let link: KeeperLink
  let attendant: Attendant
  let loop: EventLoop
  let signals: EndSignals
  let mailbox: Mailbox
  var connections: [UInt64: Connection] = [:]
  var tenants: [Tenant.Identifier: Tenant] = [:]
  var names: [String: Tenant.Identifier] = [:]
  var processTokens: [UInt64: Tenant.Identifier] = [:]
  var claims = FileClaims()
  /// Tenants that are being looked at, and those whose threads are being ended: a client can keep us waiting for both.
  var registrations: [Tenant.Identifier: Transit] = [:]
  var departures: [Tenant.Identifier: Transit] = [:]
  var nextToken = Token.first
  var isEnding = false
  /// Kept for as long as this worker lives.
  var sharedDescriptors: SharedDescriptors?
  let acceptLog: Log.Limited
  var lastLookNanoseconds: UInt64 = 0
  var lastAliveNanoseconds: UInt64 = 0
  /// How often the service manager wants a sign of life, and then some; nil where it wants none.
  let watchdogNanoseconds = Machine.environment("WATCHDOG_USEC").flatMap { UInt64($0) }.map { $0 / 3 * 1000 }

  var log: Log { shared.log }

  /// - Parameter signals: made before any thread.
  init(_ shared: LinuxPorts.Shared, link: KeeperLink, attendant: Attendant, signals: EndSignals) throws(SystemError) {
    self.shared = shared
    self.attendant = attendant
    self.link = link
    self.signals = signals
    acceptLog = Log.Limited(shared.log)
    loop = try EventLoop()
    mailbox = try Mailbox()
    guard let listener = link.held[HeldRole.listenerKey] else {
      throw SystemError("finding the listening socket", errorNumber: ErrorNumber.noEntry)
    }
    // Who knocks is let in by the keeper.
    try loop.add(listener, token: Token.listener)
    try loop.add(signals.descriptor, token: Token.signals)
    try loop.add(mailbox.wakeUp.descriptor, token: Token.mailbox)
    try loop.add(link.descriptor, token: Token.keeper)
    // Only its hang-up: what it answers is read by who asked.
    try loop.change(link.descriptor, token: Token.keeper, readable: false, writable: false)
    try loop.add(attendant.process.descriptor, token: Token.attendant)
    nextToken = max(Token.first, (link.held.keys.map(\.group).max() ?? 0) + 1)
  }

  /// Serves until a signal has asked for the end and every tenant's memory is back.
  func run() throws(SystemError) {
    while !(isEnding && tenants.isEmpty) {
      for ready in try loop.wait(timeoutNanoseconds: patienceNanoseconds) { handle(ready) }
      look()
    }
    log.info("every tenant's memory is back; goodbye")
  }

  private func handle(_ ready: EventLoop.Ready) {
    switch ready.token {
    case Token.listener: acceptConnections()
    case Token.signals: beginEnd()
    case Token.keeper:
      if ready.isHungUp {
        if link.endsWithKeeper { Console.exit(1) }
        log.error("the keeper is dead; the attendant becomes the keeper, and starts another worker")
        log.error("that failed: \(link.makeKeeper(of: attendant)); no worker will follow this one")
        loop.remove(link.descriptor)
      }
    case Token.attendant:
      attendant.died()
      log.error("the attendant is dead, and so is the keeper: nobody can be stopped or looked at any more")
      loop.remove(attendant.process.descriptor)
    case Token.mailbox: for task in mailbox.takeAll() { task(self) }
    default:
      if let identifier = processTokens[ready.token] {
        if let tenant = tenants[identifier], tenant.processes[ready.token]?.isAlive == false {
          drop(ready.token, of: tenant)
        }
      } else if let connection = connections[ready.token] {
        handle(ready, connection)
      }
    }
  }

  /// Does on a thread of its own what may have to wait; the control thread goes on with what has come of it.
  func inBackground<Outcome: Sendable>(
    _ name: String, _ work: @escaping @Sendable () -> Outcome, then goOn: @escaping @Sendable (Server, Outcome) -> Void
  ) throws(ProtocolError) {
    do throws(SystemError) {
      try Thread.runDetached(name: name) { [mailbox] in
        let outcome = work()
        mailbox.post { goOn($0, outcome) }
      }
    } catch { throw ProtocolError(.noMemory, error.description) }
  }

  func takeToken() -> UInt64 {
    defer { nextToken += 1 }
    return nextToken
  }
}
