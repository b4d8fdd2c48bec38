internal import Adapters

/// What nothing calls for: the watchdog, and threads that clients keep waiting.
extension Server {
  private static let lookNanoseconds: UInt64 = 1_000_000_000

  /// How long may be waited for something to happen; nil: for ever.
  var patienceNanoseconds: UInt64? {
    var patience = watchdogNanoseconds
    if !registrations.isEmpty || !departures.isEmpty || tenants.values.contains(where: \.isCounting) {
      patience = min(patience ?? .max, Self.lookNanoseconds)
    } else if tenants.values.contains(where: { $0.lifecycle.state != .ready || $0.lifecycle.job != nil }) {
      patience = min(patience ?? .max, Limits.laneNanoseconds)
    }
    return patience
  }

  func look() {
    let now = SystemClock().nowNanoseconds
    guard now - lastLookNanoseconds >= Self.lookNanoseconds else { return }
    lastLookNanoseconds = now
    for tenant in tenants.values { look(at: tenant) }
    registrations = registrations.mapValues(complainOnce)
    departures = departures.mapValues(complainOnce)
    if let watchdogNanoseconds, now - lastAliveNanoseconds >= watchdogNanoseconds {
      lastAliveNanoseconds = now
      link.tellAlive(statusLine)
    }
  }

  private func look(at tenant: Tenant) {
    if tenant.countLane.busyNanoseconds >= Limits.countNanoseconds { reportUncounted(tenant) }
    let stuck = tenant.runtime.stuckLanes
    for lane in stuck where !tenant.stuckLanes.contains(lane.name) {
      log.warning("tenant \(tenant.name): \(lane.complaint)")
    }
    let names = Set(stuck.map(\.name))
    for name in tenant.stuckLanes.subtracting(names) {
      log.info("tenant \(tenant.name): its thread \"\(name)\" goes on")
    }
    tenant.stuckLanes = names
  }

  private func complainOnce(_ transit: Transit) -> Transit {
    guard !transit.isReported, transit.lane.isStuck else { return transit }
    log.warning("tenant \(transit.name.shortened): \(transit.lane.complaint)")
    var told = transit
    told.isReported = true
    return told
  }

  /// For the service manager.
  private var statusLine: String {
    let monitored = tenants.values.filter { $0.lifecycle.state != .ready }
    let (staged, file) = monitored.reduce((0, 0)) { sum, tenant in
      let counts = tenant.runtime.memory.ledger.counts
      return (sum.0 + counts.staged, sum.1 + counts.file)
    }
    func size(_ pages: Int) -> String { ByteSize.text(UInt64(shared.geometry.bytes(inPages: pages))) }
    let all = tenants.count.counted("tenant")
    return "\(all), \(monitored.count) monitored; \(size(staged)) in staging, \(size(file)) on disk"
  }
}
