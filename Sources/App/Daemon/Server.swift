internal import Adapters
internal import Domain

/// The control thread: connections, requests, life cycles. It never waits for a disk, a tenant or a lock that is held long;
/// long work runs on the tenants' own threads.
final class Server {
  struct Configuration {
    let socketPath: String
    let socketMode: UInt32
    let socketGroup: String?
    let shared: LinuxPorts.Shared
    let log: Log
  }

  static let connectionLimit = 1024
  static let tenantLimit = 1024
  /// Packets of one connection that are handled before the others' turn comes.
  private static let packetsPerTurn = 16

  private enum Token {
    static let listener: UInt64 = 0
    static let signals: UInt64 = 1
    static let mailbox: UInt64 = 2
    static let first: UInt64 = 16
  }

  private let configuration: Configuration
  private let loop: EventLoop
  private let signals: EndSignals
  private let mailbox: Mailbox
  private let listener: SocketListener
  private var connections: [UInt64: Connection] = [:]
  private var tenants: [Tenant.Identifier: Tenant] = [:]
  private var names: [String: Tenant.Identifier] = [:]
  private var processTokens: [UInt64: Tenant.Identifier] = [:]
  private var claims = FileClaims()
  private var nextToken = Token.first
  private var isEnding = false

  private var log: Log { configuration.log }

  /// - Parameter signals: made before any thread.
  init(_ configuration: Configuration, signals: EndSignals) throws(SocketListener.Failure) {
    self.configuration = configuration
    self.signals = signals
    do throws(SystemError) {
      loop = try EventLoop()
      mailbox = try Mailbox()
    } catch { throw .system(error) }
    listener = try SocketListener(
      path: configuration.socketPath, mode: configuration.socketMode, group: configuration.socketGroup)
    do throws(SystemError) {
      try loop.add(listener.descriptor, token: Token.listener)
      try loop.add(signals.descriptor, token: Token.signals)
      try loop.add(mailbox.wakeUp.descriptor, token: Token.mailbox)
    } catch { throw .system(error) }
  }

  /// Serves until a signal has asked for the end and every tenant's memory is back.
  func run() throws(SystemError) {
    while !(isEnding && tenants.isEmpty) {
      for ready in try loop.wait() { handle(ready) }
    }
    listener.removeFile()
    log.info("every tenant's memory is back; goodbye")
  }

  private func handle(_ ready: EventLoop.Ready) {
    switch ready.token {
    case Token.listener: acceptConnections()
    case Token.signals: beginEnd()
    case Token.mailbox: for message in mailbox.takeAll() { handle(message) }
    default:
      if let identifier = processTokens[ready.token] {
        if let tenant = tenants[identifier], !tenant.process.isAlive { bury(tenant) }
      } else if let connection = connections[ready.token] {
        handle(ready, connection)
      }
    }
  }

  private func handle(_ message: Message) {
    switch message {
    case .jobEnded(let identifier, let result):
      if let tenant = tenants[identifier] { jobEnded(tenant, result) }
    case .processGone(let identifier):
      // Its memory is gone (ESRCH): it is dead, or executes another program now, and its memory is not ours any more.
      if let tenant = tenants[identifier] { bury(tenant) }
    case .reply(let token, let reply):
      if let connection = connections[token] { answer(connection, reply) }
    }
  }

  // MARK: Connections

  private func acceptConnections() {
    do throws(SystemError) {
      while let socket = try listener.accept() {
        guard connections.count < Self.connectionLimit else {
          log.warning("a connection is refused: there are \(Self.connectionLimit) already")
          continue  // closed by its deinit
        }
        let peer = try socket.peer()
        let connection = Connection(token: takeToken(), socket: socket, user: peer.user, process: peer.process)
        try loop.add(socket.descriptor, token: connection.token)
        connections[connection.token] = connection
      }
    } catch { log.warning("\(error)") }
  }

  private func handle(_ ready: EventLoop.Ready, _ connection: Connection) {
    if connection.isBusy {
      // It hung up; what it asked for is carried out, and what it may have asked after that is read then.
      connection.isHungUp = true
      loop.remove(connection.socket.descriptor)
      return
    }
    if let reply = connection.unsentReply {
      connection.unsentReply = nil
      send(connection, reply)
      if connection.unsentReply != nil && ready.isHungUp { return close(connection) }
    }
    readRequests(connection)
  }

  private func readRequests(_ connection: Connection) {
    for _ in 0..<Self.packetsPerTurn where !connection.isBusy && connection.unsentReply == nil {
      guard connections[connection.token] != nil else { return }
      do throws(SystemError) {
        switch try connection.socket.receive() {
        case .nothingYet:
          if connection.isHungUp { close(connection) }
          return
        case .closed: return close(connection)
        case .packet(let packet): handle(packet, connection)
        }
      } catch {
        log.debug("connection \(connection.token): \(error)")
        return close(connection)
      }
    }
    // A connection that hung up is not watched any more: what is left in it is read now.
    if connection.isHungUp && !connection.isBusy { readRequests(connection) }
  }

  private func close(_ connection: Connection) {
    loop.remove(connection.socket.descriptor)
    connections[connection.token] = nil
    guard let identifier = connection.tenant, let tenant = tenants[identifier] else { return }
    log.info("tenant \(tenant.name): its connection is closed; bringing everything back")
    apply(Tenant.Command(command: .unregister, connection: nil, waits: false), to: tenant)
  }

  /// Sends the reply to the connection's request, and takes the next one.
  private func answer(_ connection: Connection, _ reply: JSONValue) {
    guard case .object(var members) = reply else { return }
    if let id = connection.pendingIdentifier { members["id"] = id }
    let wasBusy = connection.isBusy
    connection.pendingIdentifier = nil
    connection.isBusy = false
    send(connection, JSONValue.object(members).bytes)
    if wasBusy { resumeReading(connection) }
  }

  private func answer(_ connection: Connection, _ error: ProtocolError) {
    answer(connection, .object(["ok": .bool(false), "error": error.json]))
  }

  private func send(_ connection: Connection, _ bytes: [UInt8]) {
    do throws(SystemError) {
      if !(try connection.socket.send(bytes)) {
        connection.unsentReply = bytes
        if !connection.isHungUp {
          try loop.change(connection.socket.descriptor, token: connection.token, readable: false, writable: true)
        }
      } else if !connection.isHungUp {
        try loop.change(connection.socket.descriptor, token: connection.token, readable: true, writable: false)
      }
    } catch { log.debug("connection \(connection.token): \(error)") }
  }

  private func resumeReading(_ connection: Connection) {
    if connection.isHungUp {
      connection.unsentReply = nil
      readRequests(connection)
    }
  }

  /// The request is answered later: nothing more is read until then.
  private func keepBusy(_ connection: Connection) {
    connection.isBusy = true
    do throws(SystemError) {
      if !connection.isHungUp {
        try loop.change(connection.socket.descriptor, token: connection.token, readable: false, writable: false)
      }
    } catch { log.warning("\(error)") }
  }

  // MARK: Requests

  private func handle(_ packet: Packet, _ connection: Connection) {
    if packet.isTruncated {
      return answer(
        connection,
        ProtocolError(.tooLarge, "the packet is longer than the \(SequencedSocket.packetLimit) bytes that one may have"))
    }
    let decoded = DecodedRequest(packet.bytes)
    connection.pendingIdentifier = decoded.id
    do throws(ProtocolError) {
      if packet.lostDescriptors {
        throw ProtocolError(
          .invalidRequest, "more descriptors came than can be taken (\(SequencedSocket.descriptorLimit), or the process's limit)")
      }
      let request = try decoded.request.get()
      if case .register(let body) = request { return try register(body, packet, connection) }
      guard packet.descriptors.isEmpty else {
        throw ProtocolError(
          .invalidRequest, "\(packet.descriptors.count) descriptors came with a request that takes none")
      }
      switch request {
      case .register: break
      case .unregister(let name):
        let tenant = try find(name, for: connection)
        apply(Tenant.Command(command: .unregister, connection: connection.token, waits: true), to: tenant)
      case .command(let command, let body): try carryOut(command, body, connection)
      case .status(let name): report(try find(name, for: connection), to: connection)
      case .list(let after): answer(connection, list(after: after, for: connection))
      }
    } catch { answer(connection, error) }
  }

  private func carryOut(_ command: TenantCommand, _ body: CommandRequest, _ connection: Connection) throws(ProtocolError) {
    let tenant = try find(body.tenant, for: connection)
    if command == .enable && tenant.freeze == .caller && tenant.connection != connection.token {
      throw ProtocolError(
        .permissionDenied,
        "tenant \(tenant.name) is registered with \"freeze\": \"caller\": it must stop its writers first, so only its own "
          + "connection may ask enable")
    }
    if tenant.isLeaving && command != .disable {
      throw ProtocolError(
        .wrongState, "\(command.rawValue): the tenant is being unregistered", state: tenant.lifecycle.state)
    }
    let waits = command == .enable || body.wait == true
    apply(Tenant.Command(command: command, connection: connection.token, waits: waits), to: tenant)
  }

  private func find(_ name: String?, for connection: Connection) throws(ProtocolError) -> Tenant {
    guard let name else {
      if let identifier = connection.tenant, let tenant = tenants[identifier] { return tenant }
      throw ProtocolError(.noSuchTenant, "tenant: is missing, and this connection has none of its own")
    }
    guard let identifier = names[name], let tenant = tenants[identifier], maySee(tenant, connection) else {
      throw ProtocolError(.noSuchTenant, "tenant: there is none named \"\(name.prefix(80))\"")
    }
    return tenant
  }

  private func maySee(_ tenant: Tenant, _ connection: Connection) -> Bool {
    connection.user == 0 || connection.user == Machine.effectiveUser || connection.user == tenant.user
  }

  private func register(_ request: RegisterRequest, _ packet: Packet, _ connection: Connection) throws(ProtocolError) {
    if isEnding { throw ProtocolError(.aborted, "the daemon is ending") }
    if let identifier = connection.tenant, tenants[identifier] != nil {
      throw ProtocolError(.invalidRequest, "this connection has a tenant already; a connection registers one at a time")
    }
    if names[request.tenant] != nil {
      throw ProtocolError(.nameTaken, "tenant: the name \"\(request.tenant.prefix(80))\" is taken; choose another")
    }
    guard tenants.count < Self.tenantLimit else {
      throw ProtocolError(.noMemory, "there are \(Self.tenantLimit) tenants already, and no more are taken")
    }
    let registration = try Registration(
      request, packet: packet, peer: connection.process, shared: configuration.shared)
    do throws(RegionError) {
      try claims.claim(registration.requests, files: registration.files, tenant: registration.name)
    } catch { throw ProtocolError(error) }
    do throws(SystemError) {
      try add(registration, connection)
    } catch {
      claims.release(tenant: registration.name)
      throw ProtocolError(.noMemory, error.description)
    }
    answer(
      connection,
      .object([
        "ok": .bool(true), "tenant": .string(registration.name), "protocol": .int(1),
        "page_size": .int(configuration.shared.geometry.pageBytes),
      ]))
  }

  private func add(_ registration: Registration, _ connection: Connection) throws(SystemError) {
    let identifier = Tenant.Identifier(serial: takeToken())
    let mailbox = mailbox
    let runtime = try TenantRuntime(
      name: registration.name, memory: registration.memory, freeze: registration.freeze, log: log,
      jobEnded: { mailbox.post(.jobEnded(tenant: identifier, $0)) },
      processGone: { mailbox.post(.processGone(tenant: identifier)) })
    try runtime.start()
    let tenant = Tenant(
      identifier: identifier, name: registration.name, user: connection.user, connection: connection.token,
      freeze: registration.freeze, process: registration.process, processToken: takeToken(), runtime: runtime)
    do throws(SystemError) { try loop.add(tenant.process.descriptor, token: tenant.processToken) } catch {
      runtime.shutDown()
      throw error
    }
    tenants[identifier] = tenant
    names[tenant.name] = identifier
    processTokens[tenant.processToken] = identifier
    connection.tenant = identifier
    log.info(
      "tenant \(tenant.name): registered by user \(tenant.user), process \(tenant.process.pid), "
        + "\(registration.memory.map.sizeBytes >> 20) MiB in \(registration.requests.count) regions")
  }

  // MARK: Commands

  private func apply(_ command: Tenant.Command, to tenant: Tenant) {
    let hasStagedPages = tenant.runtime.memory.ledger.counts.staged > 0
    if command.command == .unregister { tenant.isLeaving = true }
    switch tenant.lifecycle.decide(command.command, hasStagedPages: hasStagedPages) {
    case .start(let job):
      tenant.lifecycle.started(job)
      tenant.failure = nil
      wait(command, tenant)
      tenant.runtime.begin(job)
      if !command.waits { acknowledge(command, tenant) }
    case .join:
      wait(command, tenant)
      if !command.waits { acknowledge(command, tenant) }
    case .abortThenAskAgain:
      enqueue(command, tenant)
      tenant.runtime.abortJob()
    case .waitThenAskAgain: enqueue(command, tenant)
    case .nothingToDo:
      if tenant.isLeaving { return forget(tenant, answering: command) }
      if command.waits { report(tenant, to: command) } else { acknowledge(command, tenant) }
    case .refuse(let state):
      guard let connection = command.connection.flatMap({ connections[$0] }) else { return }
      answer(
        connection,
        ProtocolError(
          .wrongState, "\(command.command.rawValue): the tenant is \(state.rawValue); \(Self.advice(command.command))",
          state: state))
    }
  }

  private static func advice(_ command: TenantCommand) -> String {
    switch command {
    case .trim: "it must be Pending, as enable leaves it"
    case .out: "it must be Pending, as enable leaves it, or Failed with pages in staging"
    case .enable, .disable, .unregister: "any state would be right"
    }
  }

  private func wait(_ command: Tenant.Command, _ tenant: Tenant) {
    guard command.waits, let token = command.connection, let connection = connections[token] else { return }
    tenant.waiters.append(Tenant.Waiter(connection: token, command: command.command))
    keepBusy(connection)
  }

  private func enqueue(_ command: Tenant.Command, _ tenant: Tenant) {
    tenant.queue.append(command)
    if let connection = command.connection.flatMap({ connections[$0] }) { keepBusy(connection) }
  }

  private func acknowledge(_ command: Tenant.Command, _ tenant: Tenant) {
    guard let connection = command.connection.flatMap({ connections[$0] }) else { return }
    answer(
      connection,
      .object([
        "ok": .bool(true), "tenant": .string(tenant.name), "state": .string(tenant.lifecycle.state.rawValue),
      ]))
  }

  private func jobEnded(_ tenant: Tenant, _ result: TenantRuntime.JobResult) {
    tenant.lifecycle.ended(result.end)
    tenant.failure = nil
    let error = result.failure.map { ProtocolError($0) }
    if let error {
      log.warning("tenant \(tenant.name): \(result.job.rawValue) failed: \(error.message)")
      if tenant.lifecycle.state == .failed { tenant.failure = error }
    } else {
      let transition = tenant.runtime.transition
      log.info(
        "tenant \(tenant.name): \(result.job.rawValue) \(result.end == .aborted ? "ended early" : "done"): "
          + "\(transition.pages) pages in \(transition.nanoseconds / 1_000_000) ms; \(tenant.lifecycle.state.rawValue)")
    }
    let waiters = tenant.waiters
    tenant.waiters = []
    let leaves = tenant.isLeaving && tenant.lifecycle.state == .ready && result.job == .disable
    for waiter in waiters {
      guard let connection = connections[waiter.connection] else { continue }
      switch (result.end, error) {
      case (.failed, let error?): answer(connection, error)
      case (.aborted, _):
        answer(connection, ProtocolError(.aborted, "\(waiter.command.rawValue): another command has ended it"))
      default: if !leaves { report(tenant, to: connection) } else { answerGone(connection, tenant) }
      }
    }
    if leaves { return forget(tenant, answering: nil) }
    // An unregister that failed leaves a tenant that can be told again, unless it lost its connection or the daemon ends.
    if case .failed = result.end, tenant.isLeaving {
      if isEnding {
        log.error("tenant \(tenant.name): not everything is back, so the daemon stays; ask disable when the cause is gone")
        endNextTenant()
      } else if connections[tenant.connection] != nil {
        tenant.isLeaving = false
      }
    }
    let queue = tenant.queue
    tenant.queue = []
    for command in queue where tenants[tenant.identifier] != nil { askAgain(command, tenant) }
  }

  private func askAgain(_ command: Tenant.Command, _ tenant: Tenant) {
    if let connection = command.connection.flatMap({ connections[$0] }) {
      connection.isBusy = true
    } else if command.connection != nil && command.command != .unregister {
      return  // who asked is gone
    }
    apply(command, to: tenant)
  }

  // MARK: Answers

  private func report(_ tenant: Tenant, to command: Tenant.Command) {
    if let connection = command.connection.flatMap({ connections[$0] }) { report(tenant, to: connection) }
  }

  /// Counting the resident pages walks the memfd, whose lock a tenant can hold: on a thread of its own.
  private func report(_ tenant: Tenant, to connection: Connection) {
    let (snapshot, mailbox, token) = (tenant.statusSnapshot, mailbox, connection.token)
    keepBusy(connection)
    do throws(SystemError) {
      try Thread.runDetached(name: "status") {
        do throws(ProtocolError) { mailbox.post(.reply(connection: token, try snapshot.reply())) } catch {
          mailbox.post(.reply(connection: token, .object(["ok": .bool(false), "error": error.json])))
        }
      }
    } catch { answer(connection, ProtocolError(.noMemory, error.description)) }
  }

  private func answerGone(_ connection: Connection, _ tenant: Tenant) {
    answer(connection, .object(["ok": .bool(true), "tenant": .string(tenant.name)]))
  }

  private func list(after: String?, for connection: Connection) -> JSONValue {
    let visible = tenants.values.filter { maySee($0, connection) && $0.name > (after ?? "") }
    var entries: [JSONValue] = []
    var bytes = Self.listOverheadBytes
    for tenant in visible.sorted(by: { $0.name < $1.name }) {
      let entry = JSONValue.object([
        "tenant": .string(tenant.name), "state": .string(tenant.lifecycle.state.rawValue),
        "size": .unsigned(tenant.runtime.memory.map.sizeBytes), "pids": .array([.integer(Int64(tenant.process.pid))]),
      ])
      bytes += entry.bytes.count + 1
      if bytes > SequencedSocket.packetLimit {
        return .object(["ok": .bool(true), "tenants": .array(entries), "more": .bool(true)])
      }
      entries.append(entry)
    }
    return .object(["ok": .bool(true), "tenants": .array(entries)])
  }

  /// Of a `list` reply besides its entries, the longest `id` included.
  private static let listOverheadBytes = 128 + DecodedRequest.longestIdentifier

  // MARK: Ends

  /// The tenant's memory is back, or dead: nothing of it stays.
  private func forget(_ tenant: Tenant, answering command: Tenant.Command?) {
    tenants[tenant.identifier] = nil
    names[tenant.name] = nil
    processTokens[tenant.processToken] = nil
    loop.remove(tenant.process.descriptor)
    claims.release(tenant: tenant.name)
    if let connection = connections[tenant.connection] { connection.tenant = nil }
    let runtime = tenant.runtime
    // Its threads may be in the middle of something: they end on their own time.
    do throws(SystemError) { try Thread.runDetached(name: "goodbye") { runtime.shutDown() } } catch { runtime.shutDown() }
    log.info("tenant \(tenant.name): forgotten")
    if let connection = command?.connection.flatMap({ connections[$0] }) { answerGone(connection, tenant) }
    for command in tenant.queue {
      guard let connection = command.connection.flatMap({ connections[$0] }) else { continue }
      if command.command == .unregister || command.command == .disable {
        answerGone(connection, tenant)
      } else {
        answer(connection, ProtocolError(.aborted, "\(command.command.rawValue): the tenant is gone"))
      }
    }
    tenant.queue = []
    if isEnding { endNextTenant() }
  }

  /// The tenant's process has died: its memory needs nobody any more.
  private func bury(_ tenant: Tenant) {
    log.info("tenant \(tenant.name): process \(tenant.process.pid) has died")
    let waiters = tenant.waiters
    tenant.waiters = []
    forget(tenant, answering: nil)
    for waiter in waiters {
      guard let connection = connections[waiter.connection] else { continue }
      answer(connection, ProtocolError(.aborted, "\(waiter.command.rawValue): the tenant's last process has died"))
    }
  }

  private func beginEnd() {
    guard let signal = signals.take() else { return }
    log.info("signal \(signal): bringing every tenant's memory back")
    if !isEnding {
      isEnding = true
      endNextTenant()
    }
  }

  private func endNextTenant() {
    guard let tenant = tenants.values.filter({ !$0.isLeaving }).min(by: { $0.name < $1.name }) else { return }
    apply(Tenant.Command(command: .unregister, connection: nil, waits: false), to: tenant)
  }

  private func takeToken() -> UInt64 {
    defer { nextToken += 1 }
    return nextToken
  }
}
