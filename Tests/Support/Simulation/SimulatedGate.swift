import Domain

/// A fair gate whose waiters the scheduler knows.
package final class SimulatedGate: Gate, @unchecked Sendable {  // belongs to whoever holds the baton
  private final class Ticket {
    let isExclusive: Bool
    var isGranted = false
    init(isExclusive: Bool) { self.isExclusive = isExclusive }
  }

  private let kernel: SimulatedKernel
  private var queue: [Ticket] = []
  private var sharedHolds = 0
  private var exclusiveHolds = 0

  init(kernel: SimulatedKernel) { self.kernel = kernel }

  package var isFree: Bool { sharedHolds == 0 && exclusiveHolds == 0 && queue.isEmpty }

  package var isWanted: Bool { !queue.isEmpty }

  package func lockShared() { lock(Ticket(isExclusive: false)) }
  package func lockExclusive() { lock(Ticket(isExclusive: true)) }

  package func unlockShared() {
    if kernel.scheduler.isUnwinding { return }
    precondition(sharedHolds > 0, "the gate is let go that nobody holds")
    sharedHolds -= 1
    unlocked()
  }

  package func unlockExclusive() {
    if kernel.scheduler.isUnwinding { return }
    precondition(exclusiveHolds > 0, "the gate is let go that nobody holds")
    exclusiveHolds -= 1
    unlocked()
  }

  private func lock(_ ticket: Ticket) {
    if kernel.scheduler.isUnwinding { return }
    let thread = kernel.scheduler.current
    kernel.enter("gate.lock\(ticket.isExclusive ? "Exclusive" : "Shared")")
    if thread.gateHolds > 0 { kernel.fail("\(thread.name) takes the gate twice") }
    queue.append(ticket)
    grant()
    if !ticket.isGranted {
      kernel.scheduler.wait(for: "the gate, \(ticket.isExclusive ? "exclusive" : "shared")") { ticket.isGranted }
    }
    thread.gateHolds += 1
  }

  private func unlocked() {
    kernel.scheduler.current.gateHolds -= 1
    grant()
    kernel.enter("gate.unlock")
  }

  /// First come, first served.
  private func grant() {
    while let first = queue.first, fits(first) {
      queue.removeFirst()
      if first.isExclusive { exclusiveHolds += 1 } else { sharedHolds += 1 }
      first.isGranted = true
    }
  }

  private func fits(_ ticket: Ticket) -> Bool {
    switch kernel.defect {
    case .gateDoesNotExclude: true
    case .sharedEntersExclusive: !ticket.isExclusive || exclusiveHolds == 0 && sharedHolds == 0
    case .exclusiveEntersShared: exclusiveHolds == 0
    default: exclusiveHolds == 0 && (!ticket.isExclusive || sharedHolds == 0)
    }
  }
}
