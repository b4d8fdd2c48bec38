package import Domain

package final class SimulatedFreezer: Freezer, @unchecked Sendable {  // belongs to whoever holds the baton
  private let kernel: SimulatedKernel
  private var seen: Set<ObjectIdentifier> = []

  init(kernel: SimulatedKernel) { self.kernel = kernel }

  package func requestStop() throws(PortFailure) {
    kernel.enterBlocking("freezer.requestStop")
    if kernel.defect == .edgesAreMovedLive { return }
    for process in kernel.processes where process.isKnown && !process.isToStop {
      try kernel.mayFail(.stopProcess, ErrorNumber.inputOutput)
      kernel.stoppedProcesses.append(process)
      kernel.perhapsTheEnd()
      process.isToStop = true
      kernel.perhapsTheEnd()
    }
  }

  package func allStopped() throws(PortFailure) -> Bool {
    kernel.enter("freezer.allStopped")
    try kernel.mayFail(.inspectProcess, ErrorNumber.inputOutput)
    if kernel.defect == .nothingHoldsWriters { return true }
    if kernel.defect == .edgesAreMovedLive { return !kernel.tasks.contains { $0.isRemoving } }
    let countsRemovers = kernel.defect == .removersCountAsStopped
    return kernel.tasks.allSatisfy {
      $0.isFinished || $0.isStopped || !$0.process.hasJoined || countsRemovers && $0.isRemoving
    }
  }

  package func resume() {
    kernel.enter("freezer.resume")
    for process in kernel.stoppedProcesses {
      process.isToStop = false
      kernel.perhapsTheEnd()
    }
    kernel.stoppedProcesses.removeAll()
  }

  package func beginLook() {
    kernel.enter("freezer.beginLook")
    seen.removeAll()
  }

  package func look() throws(PortFailure) -> Bool {
    kernel.enterBlocking("freezer.look")
    try kernel.mayFail(.inspectProcess, ErrorNumber.inputOutput)
    if kernel.defect == .lookSeesNobody { return true }
    let missesEarly = kernel.defect == .lookMissesEarlyRemoves
    for task in kernel.tasks where !task.isRemoving || missesEarly && task.removesUnannounced {
      // A sleeping task tells in which system call; a running one tells nothing, but sleeps now and then.
      let sleeps = task.isFinished || task.thread?.isWaiting == true
      if sleeps || kernel.random.chance(perMille: 250) { seen.insert(ObjectIdentifier(task)) }
    }
    return kernel.tasks.allSatisfy { seen.contains(ObjectIdentifier($0)) }
  }
}
