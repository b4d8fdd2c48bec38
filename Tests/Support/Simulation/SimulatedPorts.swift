package import Domain

package final class SimulatedPorts: TenantPorts, @unchecked Sendable {  // belongs to whoever holds the baton
  package let kernel: SimulatedKernel
  package let table: SimulatedTable
  package let lock: SimulatedLock
  package let gate: SimulatedGate
  package let guest: SimulatedGuest
  package let staging: SimulatedStaging
  package let file: SimulatedSwapFile
  package let readAhead: SimulatedReadAhead
  package let freezer: SimulatedFreezer
  package let headroom: SimulatedHeadroom
  package let helper: SimulatedHelper
  package let clock: SimulatedClock
  package var processes: [SimulatedProcess] { kernel.processes.filter(\.isKnown) }

  package init(kernel: SimulatedKernel, plan: HistoryPlan) {
    self.kernel = kernel
    table = SimulatedTable(kernel: kernel, pageCount: kernel.map.pageCount)
    lock = SimulatedLock(kernel: kernel)
    gate = SimulatedGate(kernel: kernel)
    guest = SimulatedGuest(kernel: kernel)
    staging = SimulatedStaging(kernel: kernel)
    file = SimulatedSwapFile(
      kernel: kernel, corruptsPerMille: plan.corruptsPerMille,
      slotLimit: min(kernel.map.pageCount, plan.slotLimit ?? .max))
    readAhead = SimulatedReadAhead(
      kernel: kernel, file: file, buffers: plan.readBuffers, capacityPages: plan.readBufferPages)
    freezer = SimulatedFreezer(kernel: kernel)
    headroom = SimulatedHeadroom(kernel: kernel, shortagesPerMille: plan.shortagesPerMille)
    helper = SimulatedHelper(kernel: kernel)
    clock = SimulatedClock(scheduler: kernel.scheduler)
  }

  /// What the next worker makes of what another has left.
  package init(succeeding other: SimulatedPorts, plan: HistoryPlan) {
    kernel = other.kernel
    table = SimulatedTable(leftBy: other.table)
    lock = SimulatedLock(kernel: kernel)
    gate = SimulatedGate(kernel: kernel)
    guest = SimulatedGuest(kernel: kernel)
    staging = SimulatedStaging(kernel: kernel)
    file = other.file
    file.workerDied()
    readAhead = SimulatedReadAhead(
      kernel: kernel, file: file, buffers: plan.readBuffers, capacityPages: plan.readBufferPages)
    freezer = SimulatedFreezer(kernel: kernel)
    headroom = SimulatedHeadroom(kernel: kernel, shortagesPerMille: plan.shortagesPerMille)
    helper = SimulatedHelper(kernel: kernel)
    clock = other.clock
  }

  package func append(_ process: SimulatedProcess) {
    kernel.log("process \(process.index) has joined")
    process.hasJoined = true
  }

  package func strangeMappings() -> [StrangeMapping] { [] }

  package func createStaging() throws(PortFailure) {
    kernel.enterBlocking("createStaging")
    if kernel.stagingExists { return }
    try kernel.mayFail(.createStaging, ErrorNumber.noMemory)
    kernel.stagingExists = true
  }

  package func destroyStaging() {
    kernel.enterBlocking("destroyStaging")
    kernel.stagingExists = false
    for page in kernel.staging.indices { kernel.staging[page] = nil }
  }
}
