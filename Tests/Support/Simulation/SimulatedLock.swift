import Domain

/// The ledger's lock. Nobody runs beside its holder, so it only notes that it is held: no port may be called meanwhile.
package final class SimulatedLock: LedgerLock, @unchecked Sendable {  // belongs to whoever holds the baton
  private let kernel: SimulatedKernel
  init(kernel: SimulatedKernel) { self.kernel = kernel }

  package func lock() {
    // What was just done outside is not in the books yet: a moment to die.
    if kernel.mayDie, kernel.isRunning, kernel.random.chance(perMille: 250) { kernel.scheduler.yield() }
    if kernel.isRunning { kernel.scheduler.current.lockHolds += 1 }
  }
  package func unlock() {
    if kernel.isRunning { kernel.scheduler.current.lockHolds -= 1 }
  }
}
