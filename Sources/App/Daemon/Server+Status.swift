internal import Adapters
internal import Domain

/// What is told of tenants.
extension Server {
  func report(_ tenant: Tenant, to command: Tenant.Command) {
    if let connection = connection(of: command) { report(tenant, to: connection) }
  }

  /// Counting the resident pages walks the memfd, whose lock a tenant can hold: on a thread of the tenant's own, one at a time.
  /// Who asks meanwhile is answered by the next walk.
  func report(_ tenant: Tenant, to connection: Connection) {
    keepBusy(connection)
    tenant.statusWaiters.append((connection.token, tenant.status))
    if tenant.countLane.busyNanoseconds >= Limits.countNanoseconds {
      reportUncounted(tenant)
    } else if !tenant.isCounting {
      count(tenant)
    }
  }

  private func count(_ tenant: Tenant) {
    tenant.reported = tenant.statusWaiters
    tenant.statusWaiters = []
    let (identifier, guest) = (tenant.identifier, tenant.runtime.memory.ports.guest)
    do throws(ProtocolError) {
      try inBackground("status") {
        Result { () throws(PortFailure) in try guest.residentPages() }.mapError { ProtocolError($0) }
      } then: { server, result in
        if let tenant = server.tenants[identifier] { server.counted(tenant, result) }
      }
      tenant.isCounting = true
      tenant.countLane.enter()
    } catch { reply(tenant, .failure(error)) }
  }

  func counted(_ tenant: Tenant, _ result: Result<Int, ProtocolError>) {
    tenant.isCounting = false
    tenant.countLane.leave()
    if case .success(let pages) = result { tenant.lastResidentPages = pages }
    reply(tenant, result)
    if !tenant.statusWaiters.isEmpty { count(tenant) }
  }

  /// The walk does not come to its end: who waits for it is answered without.
  func reportUncounted(_ tenant: Tenant) {
    tenant.reported += tenant.statusWaiters
    tenant.statusWaiters = []
    let seconds = tenant.countLane.busyNanoseconds / 1_000_000_000
    let warning =
      "what is resident can't be counted: its memfd is locked since \(seconds) s; resident_pages is an earlier count"
    reply(tenant, .success(tenant.lastResidentPages), warning: warning)
  }

  private func reply(_ tenant: Tenant, _ resident: Result<Int, ProtocolError>, warning: String? = nil) {
    let waiters = tenant.reported
    tenant.reported = []
    for (token, status) in waiters {
      guard let connection = connections[token] else { continue }
      do throws(ProtocolError) {
        var reply = status
        reply["metrics"] = tenant.metrics(residentPages: try resident.get())
        if let warning { reply["warnings"] = .array((reply["warnings"]?.elements ?? []) + [.string(warning)]) }
        answer(connection, .object(reply))
      } catch { answer(connection, error) }
    }
  }

  func answerGone(_ connection: Connection, _ tenant: Tenant) {
    var members: [String: JSONValue] = ["ok": true, "tenant": .string(tenant.name)]
    if let warning = tenant.departureWarning { members["warnings"] = [.string(warning)] }
    answer(connection, .object(members))
  }

  func list(after: String?, for connection: Connection) -> JSONValue {
    let visible = tenants.values.filter { maySee($0, connection) && $0.name > (after ?? "") }
    var entries: [JSONValue] = []
    var bytes = Self.listOverheadBytes
    for tenant in visible.sorted(by: { $0.name < $1.name }) {
      var entry: [String: JSONValue] = [
        "tenant": .string(tenant.name), "state": .string(tenant.lifecycle.state.rawValue),
        "size": .unsigned(tenant.runtime.memory.map.sizeBytes),
        "pids": .array(tenant.processIdentifiers.map { .integer(Int64($0)) }),
      ]
      if tenant.record.attachment != nil { entry["attached"] = true }
      bytes += JSONValue.object(entry).bytes.count + 1
      if bytes > SequencedSocket.packetLimit {
        return ["ok": true, "tenants": .array(entries), "more": true]
      }
      entries.append(.object(entry))
    }
    return ["ok": true, "tenants": .array(entries)]
  }

  /// Of a `list` reply besides its entries, the longest `id` included.
  private static let listOverheadBytes = 128 + DecodedRequest.longestIdentifier
}
