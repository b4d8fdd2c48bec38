/// How writers are kept off the memory while it is moved.
package enum FreezeMode: String, CaseIterable, Sendable {
  /// The tenant has stopped its writers itself.
  case caller
  /// The daemon stops the tenant's processes.
  case signal
  /// Nobody is stopped, but for an instant at the beginning: write protection alone holds writers, window by window.
  case live
}

/// What a client answers for.
package struct AcceptedRisks: OptionSet, Codable, Sendable {
  package let rawValue: Int
  package init(rawValue: Int) { self.rawValue = rawValue }

  /// Kernel I/O in flight does not go into the memory.
  package static let kernelAccess = AcceptedRisks(rawValue: 1)
  /// Mappings that nobody has announced are not touched.
  package static let strangeMappings = AcceptedRisks(rawValue: 2)
}

/// `enable`: starts monitoring where it has not begun, keeps writers off, moves everything resident.
package struct EnableJob<Ports: TenantPorts>: SteppedJob {
  /// A process that has not stopped after this long does not stop at all.
  package static var freezeLimitNanoseconds: UInt64 { 1_000_000_000 }
  /// How long tasks are looked at before they are stopped for an instant instead, under `caller` and `live`.
  package static var lookLimitNanoseconds: UInt64 { 5_000_000 }

  private enum Phase {
    case begin
    /// Until no task can be inside a removal that began before registration.
    case looking(deadline: UInt64, discardGeneration: Int)
    case stopping(deadline: UInt64)
    case moving
    case failed(JobFailure)
  }

  package var pages: Int { move.pages }
  private let memory: TenantMemory<Ports>
  private let freeze: FreezeMode
  private let accepts: AcceptedRisks
  private let followsUp: Bool
  /// Mappings that nobody has announced, and through which nothing has been touched yet.
  package private(set) var strangeMappings: [StrangeMapping] = []
  private var phase = Phase.begin
  private var wasOpen = false
  private var isStopped = false
  private var move: MoveService<Ports>

  package init(memory: TenantMemory<Ports>, freeze: FreezeMode, accepts: AcceptedRisks = []) {
    self.memory = memory
    self.accepts = accepts
    self.freeze = freeze
    followsUp = false
    move = MoveService(memory: memory, isLive: freeze == .live)
  }

  /// Moves what an `enable` has left for want of memory.
  init(followingUp memory: TenantMemory<Ports>, freeze: FreezeMode, accepts: AcceptedRisks) {
    self.memory = memory
    self.accepts = accepts
    self.freeze = freeze
    followsUp = true
    move = MoveService(memory: memory, isLive: freeze == .live, windows: memory.ledger.unmoved)
  }

  package var shortage: MemoryShortage? { move.shortage }
  package var mayAbort: Bool { !move.holdsProtection }

  package mutating func step() throws(JobFailure) -> JobStep {
    do throws(JobFailure) {
      switch phase {
      case .begin: return try begin()
      case .looking(let deadline, let generation): return try look(until: deadline, discardGeneration: generation)
      case .stopping(let deadline): return try stop(until: deadline)
      case .moving: return try moveOn()
      case .failed(let failure): return try endFailed(failure)
      }
    } catch {
      if case .failed = phase { throw error }
      phase = .failed(error)
      return .again
    }
  }

  /// `enable` itself is not ended by commands: this is for a tenant that has died, and for the part of `out` that follows up.
  package mutating func abort() {
    if followsUp { memory.ledger.setUnmoved(move.windowsLeft) }
    resume()
  }

  private mutating func begin() throws(JobFailure) -> JobStep {
    wasOpen = memory.ledger.isOpen
    if freeze != .caller, !accepts.contains(.kernelAccess) {
      for process in memory.ports.processes {
        if let sign = process.kernelAccessSign { throw .kernelAccess(sign: sign) }
      }
    }
    strangeMappings = memory.ports.strangeMappings()
    if !accepts.contains(.strangeMappings), let user = strangeMappings.first(where: \.isUsed) {
      throw .strangeMapping(user)
    }
    if wasOpen {
      // An end of monitoring that failed half way may have unregistered some.
      try mapped { () throws(PortFailure) in try registerAll() }
    } else {
      try startMonitoring()
    }
    if !followsUp { memory.ledger.resetCounters() }
    try mapped { () throws(PortFailure) in try move.findEdges() }
    if freeze == .signal || move.needsStop {
      try requestStop()
    } else {
      phase = .looking(
        deadline: memory.ports.clock.nowNanoseconds + Self.lookLimitNanoseconds,
        discardGeneration: memory.ledger.discardGeneration)
      memory.ports.freezer.beginLook()
    }
    return .again
  }

  private mutating func look(until deadline: UInt64, discardGeneration: Int) throws(JobFailure) -> JobStep {
    if try mapped({ () throws(PortFailure) in try memory.ports.freezer.look() }) {
      // A task may have begun another removal after it was looked at: then what is open stays open, and resident.
      memory.ports.gate.exclusive {
        memory.ledger.settleInheritedDiscards()  // begun before the look, and every task was outside since
        if memory.ledger.discardGeneration == discardGeneration { memory.ledger.settleAllDiscards() }
      }
      phase = .moving
      return .again
    }
    guard memory.ports.clock.nowNanoseconds >= deadline else { return .retryAfter(nanoseconds: RetryDelay.freeze) }
    // A running task tells nothing of itself; stopped for an instant, it has left the kernel.
    try requestStop()
    return .again
  }

  private mutating func stop(until deadline: UInt64) throws(JobFailure) -> JobStep {
    if try mapped({ () throws(PortFailure) in try settleIfStopped() }) {
      phase = .moving
      return .again
    }
    guard memory.ports.clock.nowNanoseconds < deadline else { throw .freezeTimedOut }
    // Processes that have joined meanwhile are stopped too.
    try mapped { () throws(PortFailure) in try memory.ports.freezer.requestStop() }
    return .retryAfter(nanoseconds: RetryDelay.freeze)
  }

  /// Once all are stopped, no task is inside a removal. What was read of removals is applied under the exclusive gate, and no
  /// process joins under it, so nothing is open then.
  private mutating func settleIfStopped() throws(PortFailure) -> Bool {
    guard try memory.ports.freezer.allStopped() else { return false }
    return try memory.ports.gate.exclusive { () throws(PortFailure) in
      guard try memory.ports.freezer.allStopped() else { return false }
      memory.ledger.settleAllDiscards()
      if staysStopped { move.joinsWhenStopped = memory.ledger.joins }
      return true
    }
  }

  private mutating func requestStop() throws(JobFailure) {
    isStopped = true
    try mapped { () throws(PortFailure) in try memory.ports.freezer.requestStop() }
    phase = .stopping(deadline: memory.ports.clock.nowNanoseconds + Self.freezeLimitNanoseconds)
  }

  /// Whether what is moved next is moved while processes are stopped.
  private var staysStopped: Bool { freeze == .signal || move.needsStop }

  private mutating func moveOn() throws(JobFailure) -> JobStep {
    if isStopped, !staysStopped {
      move.joinsWhenStopped = nil
      resume()
    }
    if let joins = move.joinsWhenStopped, memory.ledger.joins != joins {
      // A thread that waits in the kernel for protection to end does not stop before that.
      guard move.liftRemainingProtection() else { return .retryAfter(nanoseconds: RetryDelay.event) }
      try requestStop()  // somebody has joined, and runs
      return .again
    }
    let step = try move.step()
    if step == .finished {
      memory.ledger.setUnmoved(move.windowsLeft)
      resume()
    }
    return step
  }

  private mutating func endFailed(_ failure: JobFailure) throws(JobFailure) -> JobStep {
    guard move.liftRemainingProtection() else { return .retryAfter(nanoseconds: RetryDelay.event) }
    resume()
    if !wasOpen && move.pages == 0 && memory.ledger.isOpen && memory.ledger.counts.allReturned { stopMonitoring() }
    throw failure
  }

  private mutating func resume() {
    if isStopped { memory.ports.freezer.resume() }
    isStopped = false
  }

  private func startMonitoring() throws(JobFailure) {
    try mapped { () throws(PortFailure) in try memory.ports.createStaging() }
    // Open before the first fault can come. A process that joins from now on registers itself.
    memory.ports.gate.exclusive { memory.ledger.open() }
    do throws(PortFailure) { try registerAll() } catch {
      stopMonitoring()
      throw .port(error)
    }
  }

  private func registerAll() throws(PortFailure) {
    for process in memory.ports.processes {
      do throws(PortFailure) { try process.register() } catch {
        // A dead process answers like one that lacks memory.
        if process.isAlive { throw error }
      }
    }
  }

  /// Nothing is out of the guest.
  private func stopMonitoring() {
    do throws(PortFailure) { try memory.endMonitoring() } catch {
      // A range that stays registered only makes faults that are served with zeros.
      memory.ports.gate.exclusive { memory.ledger.close() }
    }
    memory.ports.destroyStaging()
  }

  private func mapped<Result>(_ body: () throws(PortFailure) -> Result) throws(JobFailure) -> Result {
    do throws(PortFailure) { return try body() } catch { throw .port(error) }
  }
}
