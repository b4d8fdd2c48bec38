internal import Adapters
internal import Domain

/// A tenant's processes: those that ask to join, those that forks bring, and their deaths.
extension Server {
  func addProcess(_ request: AddProcessRequest, _ packet: Packet, _ connection: Connection) throws(ProtocolError) {
    let tenant = try find(request.tenant, for: connection)
    if tenant.record.isLeaving {
      throw ProtocolError(.wrongState, "add-process: the tenant is being unregistered", state: tenant.lifecycle.state)
    }
    guard tenant.processes.count + tenant.joining < Limits.processesOfTenant else {
      throw ProtocolError(
        .noMemory, "the tenant has \(Limits.processesOfTenant) processes already, and no more are taken")
    }
    try checkShare(of: tenant.record.user)
    try refuseKnown(packet.descriptors.first)
    let addition = try ProcessAddition(
      request, packet: packet, connection: connection, tenant: tenant,
      isOwnConnection: tenant.record.connection == connection.token)
    let (identifier, token, runtime) = (tenant.identifier, connection.token, tenant.runtime)
    // Registering waits for the process's memory lock, and for the gate.
    try inBackground(Thread.name("add-process", of: identifier.serial)) {
      addition.join(runtime)
    } then: {
      $0.processAdded(identifier, token, $1)
    }
    tenant.joining += 1
    keepBusy(connection)
  }

  func processAdded(_ identifier: Tenant.Identifier, _ token: UInt64, _ result: Result<UserfaultProcess, ProtocolError>)
  {
    let connection = connections[token]
    guard let tenant = tenants[identifier] else {
      if let connection { answer(connection, ProtocolError(.noSuchTenant, "tenant: it has ended meanwhile")) }
      return
    }
    tenant.joining -= 1
    do throws(ProtocolError) {
      let process = try result.get()
      // A forked child may be known already, and so may one that an earlier worker had taken in.
      if !tenant.processes.values.contains(where: { $0 === process }) {
        do throws(SystemError) { try watch(process, of: tenant) } catch {
          _ = tenant.runtime.remove(process)
          tenant.runtime.holdings.drop(process)
          throw ProtocolError(.noMemory, error.description)
        }
      }
      log.info("tenant \(tenant.name): \(process.text) has joined")
      if let connection { answerGone(connection, tenant) }
    } catch {
      if let connection { answer(connection, error) }
    }
    if tenant.processes.isEmpty && tenant.joining == 0 { bury(tenant) }
  }

  /// Two readers of one userfaultfd would take each other's events.
  func refuseKnown(_ userfaultfd: Descriptor?) throws(ProtocolError) {
    guard let userfaultfd else { return }
    for tenant in tenants.values {
      if tenant.processes.values.contains(where: { Userfaultfd.isSame($0.userfaultfd, userfaultfd) }) {
        throw ProtocolError(
          .invalidDescriptor, "descriptor 0 is a userfaultfd that a tenant has been registered with already")
      }
    }
  }

  /// Has the control thread told of a process's death.
  func watch(_ process: UserfaultProcess, of tenant: Tenant, token: UInt64? = nil) throws(SystemError) {
    guard let handle = process.handle else { return }
    let token = token ?? takeToken()
    try loop.add(handle.descriptor, token: token)
    processTokens[token] = tenant.identifier
    tenant.processes[token] = process
  }

  func unwatch(_ process: UserfaultProcess, _ token: UInt64, of tenant: Tenant) {
    processTokens[token] = nil
    if tenant.unwatched.remove(token) == nil, let handle = process.handle { loop.remove(handle.descriptor) }
  }

  /// One of the tenant's processes has died. With the last one the tenant ends.
  func drop(_ token: UInt64, of tenant: Tenant) {
    guard let process = tenant.processes.removeValue(forKey: token) else { return }
    unwatch(process, token, of: tenant)
    tenant.runtime.holdings.drop(process)
    log.info("tenant \(tenant.name): \(process.text) has died")
    if tenant.runtime.remove(process) == 0 && tenant.joining == 0 { bury(tenant) }
  }

  // MARK: Forks

  /// Children are served from the first; which processes they are takes a look through /proc.
  func adopt(_ children: [UserfaultProcess], by tenant: Tenant) {
    for child in children {
      let token = takeToken()
      tenant.processes[token] = child
      tenant.unwatched.insert(token)
    }
    guard !tenant.isIdentifying else { return }
    let (mailbox, identifier, runtime) = (mailbox, tenant.identifier, tenant.runtime)
    do throws(SystemError) {
      try Thread.runDetached(name: Thread.name("identify", of: identifier.serial)) {
        runtime.identifyChildren { areAll in mailbox.post(identifier) { $0.watchChildren(of: $1, areAll: areAll) } }
      }
      tenant.isIdentifying = true
    } catch { log.warning("tenant \(tenant.name): a child is served, and not watched: \(error)") }
  }

  /// - Parameter areAll: nobody is looking for them any more.
  func watchChildren(of tenant: Tenant, areAll: Bool) {
    if areAll { tenant.isIdentifying = false }
    for token in tenant.unwatched {
      guard let process = tenant.processes[token], process.handle != nil else { continue }
      tenant.unwatched.remove(token)
      do throws(SystemError) {
        try watch(process, of: tenant, token: token)
        // Where the keeper can't, the next worker finds it out again.
        attempt { try tenant.runtime.holdings.holdHandle(of: process) }
        log.info("tenant \(tenant.name): \(process.text) was forked, and is served")
      } catch {
        tenant.unwatched.insert(token)
        log.warning("tenant \(tenant.name): \(process.text) is served, and not watched: \(error)")
      }
    }
    if areAll, tenant.unwatched.contains(where: { tenant.processes[$0]?.handle == nil }) { adopt([], by: tenant) }
  }
}

extension UserfaultProcess {
  /// For people.
  var text: String { handle.map { "process \($0.pid)" } ?? "a forked child" }
}
