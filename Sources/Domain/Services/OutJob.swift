/// `out`: writes out what is staged. Where `enable` has left pages resident for want of memory, what was written has made
/// room: under `signal` and `live` they are moved then, a part at a time with a freeze of its own, and written too, until every
/// page that was resident at that `enable` has been moved once. Under `caller` only the tenant can stop its writers: the rest
/// stays resident until the next `enable`.
package struct OutJob<Ports: TenantPorts>: SteppedJob {
  /// Pages written.
  package var pages: Int { written + writing.pages }
  /// Pages moved besides.
  package private(set) var movedPages = 0
  /// Why pages stay resident, where it is not for want of memory: a process could not be stopped, or must not be.
  package private(set) var obstacle: JobFailure?
  private let memory: TenantMemory<Ports>
  private let freeze: FreezeMode
  private let accepts: AcceptedRisks
  private var written = 0
  private var writing: SwapOutJob<Ports>
  private var moving: EnableJob<Ports>?

  package init(memory: TenantMemory<Ports>, freeze: FreezeMode, accepts: AcceptedRisks = []) {
    self.memory = memory
    self.freeze = freeze
    self.accepts = accepts
    writing = SwapOutJob(memory: memory)
  }

  package var mayAbort: Bool { moving?.mayAbort ?? true }

  package mutating func step() throws(JobFailure) -> JobStep {
    if moving != nil { return try moveOn() }
    let step = try writing.step()
    guard step == .finished, freeze != .caller, !memory.ledger.unmoved.isEmpty else { return step }
    moving = EnableJob(followingUp: memory, freeze: freeze, accepts: accepts)
    return .again
  }

  package mutating func abort() {
    moving?.abort()
    moving = nil
  }

  private mutating func moveOn() throws(JobFailure) -> JobStep {
    let before = memory.ledger.unmoved.count
    do throws(JobFailure) {
      if let step = try moving?.step(), step != .finished { return step }
    } catch {
      // The job has cleaned up behind itself.
      moving = nil
      switch error {
      case .port, .unreadable, .tenantGone: throw error
      case .freezeTimedOut, .kernelAccess, .strangeMapping:
        obstacle = error
        return .finished
      }
    }
    movedPages += moving?.pages ?? 0
    moving = nil
    // Where not even one window found room, others hold the memory: it is not waited for.
    if memory.ledger.unmoved.count == before { return .finished }
    written += writing.pages
    writing = SwapOutJob(memory: memory)
    return .again
  }
}
