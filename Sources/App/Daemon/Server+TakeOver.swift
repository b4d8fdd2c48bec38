internal import Adapters
internal import Domain

/// What a worker does first: it takes over connections and tenants that an earlier one has left with the keeper.
extension Server {
  func takeOver(sharing descriptors: Result<SharedDescriptors, SystemError>) throws(SystemError) {
    takeLeftChildren()
    share(descriptors)
    let held = link.held
    adoptConnections(held)
    let former = link.takeFormerWorkers()
    for group in Set(held.keys.filter { $0.role == HeldRole.tenantRecord.rawValue }.map(\.group)).sorted() {
      try adoptTenant(group, held, after: former.workers(holding: group))
    }
    // What belongs to nobody: a registration that was not finished (and is asked for again below), a connection half held.
    for group in Set(held.keys.map(\.group))
    where group != 0 && connections[group] == nil && tenants[Tenant.Identifier(serial: group)] == nil {
      link.drop(group: group)
    }
    for tenant in Array(tenants.values) {
      let record = tenant.record
      let isDeserted = record.attachment == nil && connections[record.connection] == nil && !record.isLeaving
      if tenant.processes.isEmpty {
        bury(tenant)  // the last one died while nobody watched
      } else if isDeserted || record.isLeaving && tenant.lifecycle.job == nil {
        apply(Tenant.Command(command: .unregister, connection: nil, waits: false), to: tenant)
      }
    }
    for connection in connections.values.sorted(by: { $0.token < $1.token }) { replay(connection, held) }
    if !tenants.isEmpty {
      log.info("took over \(tenants.count.counted("tenant")) and \(connections.count.counted("connection"))")
    }
  }

  private func adoptConnections(_ held: [HeldKey: Descriptor]) {
    for (key, descriptor) in held where key.role == HeldRole.socket.rawValue {
      do throws(SystemError) {
        let socket = SequencedSocket(adopting: descriptor)
        let record: RequestRecord
        if let kept = held[HeldRole.request.key(key.group)] {
          record = try RequestRecord(adopting: kept)
        } else {
          record = try RequestRecord()  // it had only just been let in
          try link.hold([(HeldRole.request.key(key.group), record.descriptor)])
        }
        let connection = Connection(token: key.group, socket: socket, peer: try socket.peer(), record: record)
        try loop.add(descriptor, token: key.group)
        connections[key.group] = connection
      } catch { log.warning("connection \(key.group) is lost: \(error)") }
    }
  }

  // MARK: Tenants

  /// - Throws: where nothing can be served for the tenant, for want of memory say; another worker tries again.
  private func adoptTenant(_ group: UInt64, _ held: [HeldKey: Descriptor], after former: [ProcessHandle])
    throws(SystemError)
  {
    let holdings = TenantHoldings(link: link, group: group)
    guard let record = link.record(TenantRecord.self, at: HeldRole.tenantRecord.key(group)),
      let tables = held[HeldRole.tables.key(group)], let swapFile = held[HeldRole.swapFile.key(group)]
    else { return log.error("what is held of tenant \(group) can't be understood; it is given up") }
    let memfds = all(.memfd, of: group, held).map(\.descriptor)
    let (files, map): ([GuestFile], RegionMap)
    do throws(ProtocolError) {
      (files, map) = try Registration.look(at: memfds, record.regions, shared.geometry)
    } catch { return log.error("tenant \(record.name) can't be taken over, and is given up: \(error.message)") }
    let ports = try LinuxPorts(
      map: map, memfds: memfds, files: files, shared: shared, holdings: holdings,
      attachment: record.attachment,
      kept: TenantHoldings.Kept(tables: tables, swapFile: swapFile, staging: held[HeldRole.staging.key(group)]))
    let memory = TenantMemory(
      map: map, ports: ports, slotLimit: shared.limits.slots ?? .max)
    for process in try processes(of: group, held, memory, isDrained: record.attachment?.monitor != nil) {
      ports.append(process)
    }
    let identifier = Tenant.Identifier(serial: group)
    let runtime = try makeRuntime(identifier, name: record.name, memory: memory, freeze: record.freeze)
    let tenant = Tenant(identifier, record, runtime)
    tenant.lifecycle = Lifecycle(settled: record.state, interrupted: record.job)
    if let job = record.job { tenant.lifecycle.started(job) }
    try start(tenant, after: former)
    tenants[identifier] = tenant
    names[tenant.name] = identifier
    connections[record.connection]?.tenant = identifier
    let requests = record.regions.map(\.request)
    do throws(RegionError) { try claims.claim(requests, files: files, tenant: tenant.name) } catch {
      log.error("tenant \(tenant.name): its memory is claimed twice: \(error)")
    }
    try watchAll(of: tenant)
    if let job = record.job { runtime.begin(job, options: record.options) }
  }

  private func start(_ tenant: Tenant, after former: [ProcessHandle]) throws(SystemError) {
    let isMonitored = tenant.lifecycle.settled != .ready || tenant.lifecycle.job != nil
    let left: LeftTenant
    do throws(PortFailure) {
      left = try LeftTenant(name: tenant.name, memory: tenant.runtime.memory, isMonitored: isMonitored, after: former)
    } catch {
      throw SystemError(
        "taking over tenant \(tenant.name): \(error.operation.rawValue)", errorNumber: error.errorNumber)
    }
    try tenant.runtime.start(left)
  }

  private func watchAll(of tenant: Tenant) throws(SystemError) {
    var unknown: [UserfaultProcess] = []
    for process in tenant.runtime.memory.ports.processes {
      if process.handle == nil { unknown.append(process) } else { try watch(process, of: tenant) }
    }
    if !unknown.isEmpty { adopt(unknown, by: tenant) }
  }

  private func processes(
    of group: UInt64, _ held: [HeldKey: Descriptor], _ memory: TenantMemory<LinuxPorts>, isDrained: Bool
  )
    throws(SystemError) -> [UserfaultProcess]
  {
    var found: [UserfaultProcess] = []
    for (index, userfaultfd) in all(.userfaultfd, of: group, held) {
      let record = link.record(ProcessRecord.self, at: HeldRole.processRecord.key(group, index))
      var handle: ProcessHandle?
      if let pidfd = held[HeldRole.pidfd.key(group, index)] {
        // One that has only just died is noticed as ever.
        do throws(SystemError) { handle = try ProcessHandle(pidfd: pidfd) } catch {
          memory.ports.holdings.drop(index: index)
          continue
        }
      } else if record?.isForked == false {
        memory.ports.holdings.drop(index: index)  // it was just joining, and asks again
        continue
      }
      let events = try held[HeldRole.events.key(group, index)].map { (file) throws(SystemError) in
        try EventBuffer(adopting: file)
      }
      let process = try UserfaultProcess(
        userfaultfd: userfaultfd, handle: handle, map: memory.map, staging: memory.ports.staging,
        addresses: record?.addresses(memory.map), isForked: record?.isForked ?? true, isDrained: isDrained,
        events: events)
      memory.ports.holdings.adopt(process, index: index)
      found.append(process)
    }
    return found
  }

  private func all(_ role: HeldRole, of group: UInt64, _ held: [HeldKey: Descriptor]) -> [(
    index: Int, descriptor: Descriptor
  )] {
    held.filter { $0.key.group == group && $0.key.role == role.rawValue }
      .map { (Int($0.key.index), $0.value) }.sorted { $0.index < $1.index }
  }

  // MARK: Requests

  /// A request that an earlier worker had taken, and not answered.
  private func replay(_ connection: Connection, _ held: [HeldKey: Descriptor]) {
    guard let bytes = connection.record.request else {
      link.drop(requestDescriptorsOf: connection.token, held)
      return
    }
    let descriptors = all(.requestDescriptor, of: connection.token, held).map(\.descriptor)
    connection.requestDescriptors = descriptors.count
    connection.isReplayed = true
    if case .accepted(let serial) = connection.record.phase, answerAccepted(serial, bytes, connection) { return }
    handle(
      Packet(
        bytes: bytes, descriptors: descriptors, isTruncated: connection.record.isTruncated, lostDescriptors: false),
      connection)
  }

  /// The request's command had begun a job, or joined one.
  ///
  /// - Returns: false where the job never began: the request is carried out anew.
  private func answerAccepted(_ serial: UInt64, _ bytes: [UInt8], _ connection: Connection) -> Bool {
    let decoded = DecodedRequest(bytes)
    let (command, name, waits): (TenantCommand, String?, Bool)
    switch decoded.request {
    case .success(.command(let given, let body)):
      (command, name, waits) = (given, body.tenant, given == .enable || body.wait == true)
    case .success(.unregister(let given)): (command, name, waits) = (.unregister, given, true)
    default: return false
    }
    connection.pendingIdentifier = decoded.id
    let identifier = name.flatMap { names[$0] } ?? (name == nil ? connection.tenant : nil)
    guard let identifier, let tenant = tenants[identifier] else {
      if command == .unregister {
        answer(connection, ["ok": true, "tenant": .string(name ?? "")])
      } else {
        answer(connection, ProtocolError(.aborted, "\(command.rawValue): the tenant is gone"))
      }
      return true
    }
    guard serial <= tenant.record.jobSerial else { return false }
    let request = Tenant.Command(command: command, connection: connection.token, waits: waits)
    if !waits {
      acknowledge(request, tenant)
    } else if serial == tenant.record.jobSerial, tenant.lifecycle.job != nil {
      wait(request, tenant)
    } else if serial == tenant.record.jobSerial, let result = tenant.record.lastResult, !result.isAborted {
      if let error = result.error {
        answer(connection, error)
      } else if command == .unregister {
        return false
      } else {
        report(tenant, to: connection)
      }
    } else {
      answer(connection, ProtocolError(.aborted, "\(command.rawValue): another command has ended it"))
    }
    return true
  }
}

/// Children whose forks an earlier worker had read, and whom it had not handed to the keeper yet.
extension Server {
  /// Before anybody reads an event: the numbers in the buffers are those of the earlier worker's descriptors.
  func takeLeftChildren() {
    let held = link.held
    guard let sharer = held[HeldRole.sharerKey] else { return }
    do throws(SystemError) {
      let left = SharedDescriptors(leftWith: try ProcessHandle(pidfd: sharer))
      for (key, file) in held where key.role == HeldRole.events.rawValue {
        try takeChildren(of: key, EventBuffer(adopting: file), from: left)
      }
    } catch { log.error("forked children that nobody serves yet may be lost: \(error)") }
  }

  private func takeChildren(of parent: HeldKey, _ events: EventBuffer, from left: SharedDescriptors) throws(SystemError)
  {
    let group = parent.group
    for number in 0..<events.count {
      guard case .forked(let child) = events.event(at: number), let userfaultfd = left.userfaultfd(child) else {
        continue
      }
      let known = link.held.filter { $0.key.group == group && $0.key.role == HeldRole.userfaultfd.rawValue }
      // It may have been handed over just before the worker's death.
      if !known.contains(where: { Userfaultfd.isSame($0.value, userfaultfd) }) {
        let index = Int(known.keys.map(\.index).max() ?? 0) + 1
        let record = link.record(ProcessRecord.self, at: HeldRole.processRecord.key(group, Int(parent.index)))
        if let record {
          try link.store(record: ProcessRecord(childOf: record), as: HeldRole.processRecord.key(group, index))
        }
        try link.hold([(HeldRole.userfaultfd.key(group, index), userfaultfd)])
        log.info("a forked child that only the dead worker knew of is served")
      }
      events.settle(at: number)
    }
  }

  /// So that the next worker can do the same. From here on no earlier one's are needed.
  func share(_ descriptors: Result<SharedDescriptors, SystemError>) {
    let left = link.held[HeldRole.sharerKey]
    do throws(SystemError) {
      let shared = try descriptors.get()
      sharedDescriptors = shared
      try link.hold([(HeldRole.sharerKey, shared.process.descriptor)])
    } catch {
      log.warning("children that are forked just as this worker dies would be lost: \(error)")
      link.drop(HeldRole.sharerKey)
    }
    if let left { attempt { try ProcessHandle(pidfd: left).kill() } }  // else it is dead
  }
}

extension KeeperLink {
  fileprivate func drop(requestDescriptorsOf connection: UInt64, _ held: [HeldKey: Descriptor]) {
    for key in held.keys where key.group == connection && key.role == HeldRole.requestDescriptor.rawValue { drop(key) }
  }
}
