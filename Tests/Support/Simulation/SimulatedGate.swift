package import Domain

/// A fair gate whose waiters the scheduler knows.
package final class SimulatedGate: Gate, @unchecked Sendable {  // belongs to whoever holds the baton
  private final class Ticket {
    let hold: GateHold
    var isGranted = false
    init(_ hold: GateHold) { self.hold = hold }
  }

  private let kernel: SimulatedKernel
  private var queue: [Ticket] = []
  private var holders = GateHolders()

  init(kernel: SimulatedKernel) { self.kernel = kernel }

  package var isFree: Bool { holders.isEmpty && queue.isEmpty }

  package var isWanted: Bool { !queue.isEmpty }

  package func lock(_ hold: GateHold) {
    if kernel.scheduler.isUnwinding { return }
    let ticket = Ticket(hold)
    let thread = kernel.scheduler.current
    kernel.enter("gate.lock(\(hold))")
    if thread.gateHolds > 0 { kernel.fail("\(thread.name) takes the gate twice") }
    queue.append(ticket)
    grant()
    if !ticket.isGranted { kernel.scheduler.wait(for: "the gate, \(hold)") { ticket.isGranted } }
    thread.gateHolds += 1
  }

  package func unlock(_ hold: GateHold) {
    if kernel.scheduler.isUnwinding { return }
    holders.remove(hold)
    kernel.scheduler.current.gateHolds -= 1
    grant()
    kernel.enter("gate.unlock")
  }

  /// First come, first served.
  private func grant() {
    while let first = queue.first, fits(first.hold) {
      queue.removeFirst()
      holders.add(first.hold)
      first.isGranted = true
    }
  }

  private func fits(_ hold: GateHold) -> Bool {
    switch kernel.defect {
    case .gateDoesNotExclude: true
    case .sharedEntersExclusive: hold == .shared || holders.admit(hold)
    case .exclusiveEntersShared: holders.admit(.shared)
    case .releasingEntersExclusive: hold == .releasing || holders.admit(hold)
    default: holders.admit(hold)
    }
  }
}
