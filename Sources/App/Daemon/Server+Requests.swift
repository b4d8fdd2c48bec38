internal import Adapters
internal import Domain

/// What requests mean: who may ask what of whom, registration, and the answers.
extension Server {
  func handle(_ packet: Packet, _ connection: Connection) {
    if packet.isTruncated {
      return answer(
        connection,
        ProtocolError(.tooLarge, "the packet is longer than the \(SequencedSocket.packetLimit) bytes that one may have")
      )
    }
    let decoded = DecodedRequest(packet.bytes)
    connection.pendingIdentifier = decoded.id
    do throws(ProtocolError) {
      if packet.lostDescriptors {
        throw ProtocolError(
          .invalidRequest,
          "more descriptors came than can be taken (\(SequencedSocket.descriptorLimit), or the process's limit)")
      }
      let request = try decoded.request.get()
      if case .register(let body) = request { return try register(body, packet.descriptors, connection) }
      if case .addProcess(let body) = request { return try addProcess(body, packet, connection) }
      guard packet.descriptors.isEmpty else {
        throw ProtocolError(
          .invalidRequest, "\(packet.descriptors.count.counted("descriptor")) came with a request that takes none")
      }
      switch request {
      case .register, .addProcess: break
      case .attach(let body): try attach(body, connection)
      case .upgrade: try upgrade(connection)
      case .unregister(let name):
        guard let tenant = try findToUnregister(name, for: connection) else { return }
        apply(Tenant.Command(command: .unregister, connection: connection.token, waits: true), to: tenant)
      case .command(let command, let body): try carryOut(command, body, connection)
      case .status(let name): report(try find(name, for: connection), to: connection)
      case .list(let after): answer(connection, list(after: after, for: connection))
      }
    } catch { answer(connection, error) }
  }

  private func carryOut(_ command: TenantCommand, _ body: CommandRequest, _ connection: Connection)
    throws(ProtocolError)
  {
    let tenant = try find(body.tenant, for: connection)
    if command == .enable && tenant.record.freeze == .caller && tenant.record.connection != connection.token {
      throw ProtocolError(
        .permissionDenied,
        "tenant \(tenant.name) is registered with \"freeze\": \"caller\": it must stop its writers first, so only its own "
          + "connection may ask enable")
    }
    if tenant.record.isLeaving && command != .disable {
      throw ProtocolError(
        .wrongState, "\(command.rawValue): the tenant is being unregistered", state: tenant.lifecycle.state)
    }
    let waits = command == .enable || body.wait == true
    apply(
      Tenant.Command(
        command: command, connection: connection.token, waits: waits,
        options: body.options), to: tenant)
  }

  /// - Returns: nil where an earlier worker has carried the request out, which is answered then.
  private func findToUnregister(_ name: String?, for connection: Connection) throws(ProtocolError) -> Tenant? {
    do throws(ProtocolError) { return try find(name, for: connection) } catch {
      guard connection.isReplayed, error.code == .noSuchTenant else { throw error }
      answer(connection, ["ok": true, "tenant": .string(name ?? "")])
      return nil
    }
  }

  /// Replaces this worker by the program that is on disk now. The next one answers.
  private func upgrade(_ connection: Connection) throws(ProtocolError) {
    guard isPrivileged(connection.user) else {
      throw ProtocolError(.permissionDenied, "upgrade: for root and the daemon's own user only")
    }
    if connection.isReplayed, case .accepted = connection.record.phase {
      return answer(connection, ["ok": true, "version": .string(Defaults.version)])
    }
    connection.record.accept(serial: 0)
    keepBusy(connection)
    if let complaint = link.upgrade() { throw ProtocolError(.unsupported, "upgrade: \(complaint)") }
  }

  func find(_ name: String?, for connection: Connection) throws(ProtocolError) -> Tenant {
    guard let name else {
      if let identifier = connection.tenant, let tenant = tenants[identifier] { return tenant }
      throw ProtocolError(.noSuchTenant, "tenant: is missing, and this connection has none of its own")
    }
    guard let identifier = names[name], let tenant = tenants[identifier], maySee(tenant, connection) else {
      throw ProtocolError(.noSuchTenant, "tenant: there is none named \"\(name.shortened)\"")
    }
    return tenant
  }

  func maySee(_ tenant: Tenant, _ connection: Connection) -> Bool {
    isPrivileged(connection.user) || connection.user == tenant.record.user
  }

  func isPrivileged(_ user: UInt32) -> Bool { user == 0 || user == Machine.effectiveUser }

  /// - Throws: where a user has had its share.
  func checkShare(of user: UInt32, adding pages: Int = 0) throws(ProtocolError) {
    if isPrivileged(user) { return }
    let own = tenants.values.filter { $0.record.user == user }
    // Those that come and go take threads too, and may be stuck.
    let moving = (Array(registrations.values) + departures.values).count { $0.user == user }
    let shares = [
      (own.count + moving, pages > 0 ? 1 : 0, Limits.tenantsOfUser, "tenants"),
      (own.reduce(0) { $0 + $1.processes.count + $1.joining }, 1, Limits.processesOfUser, "processes"),
      (own.reduce(0) { $0 + $1.runtime.memory.map.pageCount }, pages, Limits.pagesOfUser, "pages"),
    ]
    for (count, more, limit, what) in shares where count + more > limit {
      throw ProtocolError(.noMemory, "user \(user) has \(count) \(what), and may have \(limit) in all its tenants")
    }
  }

  func register(_ request: RegisterRequest, _ descriptors: [Descriptor], _ connection: Connection) throws(ProtocolError)
  {
    if isEnding { throw ProtocolError(.aborted, "the daemon is ending") }
    if let identifier = connection.tenant, let tenant = tenants[identifier] {
      if connection.isReplayed, tenant.name == request.tenant { return answerRegistered(connection, tenant.name) }
      throw ProtocolError(.invalidRequest, "this connection has a tenant already; a connection registers one at a time")
    }
    try checkAdmission(of: request.tenant)
    try examine(request, descriptors, process: connection.process, for: connection)
  }

  func checkAdmission(of name: String) throws(ProtocolError) {
    if names[name] != nil || registrations.values.contains(where: { $0.name == name }) {
      throw ProtocolError(.nameTaken, "tenant: the name \"\(name.shortened)\" is taken; choose another")
    }
    guard tenants.count + registrations.count + departures.count < Limits.tenants else {
      throw ProtocolError(.noMemory, "there are \(Limits.tenants) tenants already, and no more are taken")
    }
  }

  /// Looks at what is to become a tenant, on a thread of its own: what was sent may be a file whose server does not answer, and
  /// the process may hold its memory lock. Then `registered` goes on.
  func examine(
    _ request: RegisterRequest, _ descriptors: [Descriptor], process: ProcessHandle?, for connection: Connection,
    attached: AttachedProcess? = nil
  ) throws(ProtocolError) {
    try checkShare(of: connection.user)
    try refuseKnown(descriptors.first)
    let identifier = Tenant.Identifier(serial: takeToken())
    let holdings = TenantHoldings(link: link, group: identifier.serial)
    let (shared, token) = (shared, connection.token)
    try inBackground(Thread.name("register", of: identifier.serial)) {
      Result { () throws(ProtocolError) in
        try Registration(
          request, descriptors, peer: process, shared: shared, holdings: holdings, attachment: attached?.attachment)
      }
    } then: {
      $0.registered(identifier, token, attached, $1)
    }
    registrations[identifier] = Transit(name: request.tenant, user: connection.user, "register")
    keepBusy(connection)
  }

  /// - Parameter attached: nil for one that has asked by itself.
  func registered(
    _ identifier: Tenant.Identifier, _ token: UInt64, _ attached: AttachedProcess?,
    _ result: Result<Registration, ProtocolError>
  ) {
    registrations[identifier] = nil
    guard let connection = connections[token] else { return link.drop(group: identifier.serial) }
    do throws(ProtocolError) {
      let registration = try result.get()
      let tenant: Tenant
      do throws(ProtocolError) {
        tenant = try admit(registration, identifier, connection, attached?.attachment)
      } catch {
        registration.memory.ports.holdings.dropAll()
        throw error
      }
      guard let attached else { return answerRegistered(connection, tenant.name) }
      attached.keep()
      answerAttached(connection, tenant, attached)
    } catch { answer(connection, error) }
  }

  private func admit(
    _ registration: Registration, _ identifier: Tenant.Identifier, _ connection: Connection, _ attachment: Attachment?
  ) throws(ProtocolError) -> Tenant {
    if isEnding { throw ProtocolError(.aborted, "the daemon is ending") }
    try refuseKnown(registration.memory.ports.processes.first?.userfaultfd)  // it may have come twice at once
    try checkShare(of: connection.user, adding: registration.memory.map.pageCount)
    do throws(RegionError) {
      try claims.claim(registration.requests, files: registration.files, tenant: registration.name)
    } catch { throw ProtocolError(error) }
    do throws(SystemError) {
      return try add(
        registration, identifier, connection.user, attachment == nil ? connection : nil, attachment)
    } catch {
      claims.release(tenant: registration.name)
      throw ProtocolError(.noMemory, error.description)
    }
  }

  private func answerRegistered(_ connection: Connection, _ name: String) {
    answer(
      connection,
      ["ok": true, "tenant": .string(name), "protocol": 1, "page_size": .int(shared.geometry.pageBytes)])
  }

  func makeRuntime(
    _ identifier: Tenant.Identifier, name: String, memory: TenantMemory<LinuxPorts>, freeze: FreezeMode
  ) throws(SystemError) -> TenantRuntime {
    let mailbox = mailbox
    return try TenantRuntime(
      name: name, memory: memory, freeze: freeze, log: log,
      jobEnded: { result in mailbox.post(identifier) { $0.jobEnded($1, result) } },
      // Its memory is gone (ESRCH): it is dead, or executes another program now, and its memory is not ours any more.
      processGone: { process in
        mailbox.post(identifier) { server, tenant in
          if let token = tenant.processes.first(where: { $1 === process })?.key { server.drop(token, of: tenant) }
        }
      },
      childrenForked: { children in mailbox.post(identifier) { $0.adopt(children, by: $1) } })
  }

  private func add(
    _ registration: Registration, _ identifier: Tenant.Identifier, _ user: UInt32, _ connection: Connection?,
    _ attachment: Attachment?
  ) throws(SystemError) -> Tenant {
    let record = TenantRecord(
      name: registration.name, user: user, connection: connection?.token ?? 0, attachment: attachment,
      freeze: registration.freeze, regions: registration.regions)
    let runtime = try makeRuntime(identifier, name: record.name, memory: registration.memory, freeze: record.freeze)
    try runtime.start()
    let tenant = Tenant(identifier, record, runtime)
    // Before it is answered; and without it there is no tenant for the next worker.
    do throws(SystemError) {
      try runtime.holdings.store(record)
      try watch(registration.memory.ports.processes[0], of: tenant)
    } catch {
      runtime.shutDown()
      throw error
    }
    tenants[identifier] = tenant
    names[tenant.name] = identifier
    connection?.tenant = identifier
    log.info(
      "tenant \(tenant.name): \(attachment == nil ? "registered" : "attached to") by user \(user), process \(registration.process.pid), "
        + "\(registration.memory.map.sizeBytes >> 20) MiB in \(registration.regions.count.counted("region"))")
    return tenant
  }
}
