internal import Adapters
internal import Domain

/// Processes that were never changed for this become tenants, and are left again without a trace.
extension Server {
  func attach(_ request: AttachRequest, _ connection: Connection) throws(ProtocolError) {
    if isEnding { throw ProtocolError(.aborted, "the daemon is ending") }
    let process = try process(of: request, for: connection)
    if let tenant = tenants.values.first(where: { $0.processIdentifiers.contains(process.pid) }) {
      // An earlier worker has carried it out.
      if connection.isReplayed, tenant.record.attachment != nil { return answerAttached(connection, tenant, nil) }
      throw ProtocolError(.invalidRequest, "pid: process \(process.pid) is one of tenant \(tenant.name)'s already")
    }
    let name = request.tenant ?? process.defaultTenantName
    try checkAdmission(of: name)
    guard request.freeze == nil || request.freeze != "caller" else {
      throw ProtocolError(
        .invalidRequest, "freeze: \"caller\" is for tenants that ask for themselves; \"signal\" and \"live\" are right")
    }
    guard request.qmp == nil || request.freeze == nil || request.freeze == FreezeMode.signal.rawValue else {
      throw ProtocolError(
        .invalidRequest, "qmp: goes with \"freeze\": \"signal\" only: I/O is drained while the machine stands still")
    }
    try checkMonitor(request.qmp, for: connection)
    let (token, link, isForeign) = (connection.token, link, !isPrivileged(connection.user))
    try inBackground("attach") {
      Result { () throws(ProtocolError) in try AttachedProcess(request, process, isForeign: isForeign, link) }
    } then: {
      $0.attached(token, name, $1)
    }
    keepBusy(connection)
  }

  func attached(_ token: UInt64, _ name: String, _ result: Result<AttachedProcess, ProtocolError>) {
    guard let connection = connections[token] else { return }
    do throws(ProtocolError) {
      let attached = try result.get()
      if attached.request.isTrial {
        return answer(connection, ["ok": true, "tenant": .string(name), "regions": attached.regions])
      }
      if isEnding { throw ProtocolError(.aborted, "the daemon is ending") }
      try checkAdmission(of: name)
      try examine(
        attached.registration(as: name), attached.descriptors, process: attached.process, for: connection,
        attached: attached)
    } catch { answer(connection, error) }
  }

  func answerAttached(_ connection: Connection, _ tenant: Tenant, _ attached: AttachedProcess?) {
    var members: [String: JSONValue] = [
      "ok": true, "tenant": .string(tenant.name), "size": .unsigned(tenant.runtime.memory.map.sizeBytes),
      "page_size": .int(shared.geometry.pageBytes),
    ]
    if let attached {
      members["regions"] = attached.regions
      members["held_us"] = .int(attached.reply.heldMicroseconds)
    }
    answer(connection, .object(members))
  }

  /// Another user's process is nobody's business; one whose user has changed is root's.
  private func process(of request: AttachRequest, for connection: Connection) throws(ProtocolError) -> ProcessHandle {
    let process: ProcessHandle
    do throws(SystemError) { process = try ProcessHandle(pid: Int32(clamping: request.pid)) } catch {
      throw ProtocolError(.invalidRequest, "pid: \(request.pid); there is no such process")
    }
    guard isPrivileged(connection.user) || process.user == connection.user && process.isUnprivileged else {
      throw ProtocolError(
        .permissionDenied,
        "pid: process \(process.pid) belongs to another user, or has capabilities; only root may attach to those")
    }
    guard process.pid != Machine.processIdentifier else {
      throw ProtocolError(.invalidRequest, "pid: the daemon can't be a tenant of its own")
    }
    return process
  }

  /// We connect to it with our own rights.
  private func checkMonitor(_ path: String?, for connection: Connection) throws(ProtocolError) {
    guard let path else { return }
    guard path.hasPrefix("/") else {
      throw ProtocolError(.invalidRequest, "qmp: \"\(path.shortened)\"; an absolute path is right")
    }
    guard let owner = Privileges.socketOwner(path) else {
      throw ProtocolError(.invalidRequest, "qmp: there is no socket at \(path.shortened)")
    }
    guard isPrivileged(connection.user) || owner == connection.user else {
      throw ProtocolError(.permissionDenied, "qmp: \(path.shortened) belongs to another user")
    }
  }

  // MARK: Leaving

  /// Everything is back: the tenant is forgotten. A process that was attached to is left as it was found, first.
  func depart(_ tenant: Tenant, answering command: Tenant.Command?) {
    guard let attachment = tenant.record.attachment,
      let process = tenant.processes.values.first(where: { !$0.isForked })
    else { return forget(tenant, answering: command) }
    if let command { enqueue(command, tenant) }
    guard !tenant.isDeparting else { return }
    tenant.isDeparting = true
    let (identifier, link) = (tenant.identifier, link)
    do throws(ProtocolError) {
      try inBackground("detach") {
        AttachedProcess.leave(process, attachment, link)
      } then: { server, complaint in
        if let tenant = server.tenants[identifier] { server.departed(tenant, complaint) }
      }
    } catch { departed(tenant, error.message) }
  }

  func departed(_ tenant: Tenant, _ complaint: String?) {
    if let complaint, let attachment = tenant.record.attachment {
      let warning =
        "descriptor \(attachment.number), a userfaultfd that nothing uses any more, stays open in its process: \(complaint)"
      tenant.departureWarning = warning
      log.warning("tenant \(tenant.name): \(warning)")
    }
    forget(tenant, answering: nil)
  }
}

extension ProcessHandle {
  /// What a tenant is called whose name nobody gives.
  fileprivate var defaultTenantName: String {
    let kept = name.utf8.prefix(40).map { Registration.isOfName($0) ? $0 : UInt8(ascii: "-") }
    return "\(String(decoding: kept, as: UTF8.self))-\(pid)"
  }
}
