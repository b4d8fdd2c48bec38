import Domain

/// What a worker does first that follows one that has died.
extension SimulatedWorker {
  private static var pauseNanoseconds: UInt64 { 50_000 }

  func takeOver() {
    let (settled, job) = (history.lifecycle.settled, history.lifecycle.job)
    kernel.log("TAKES OVER: \(settled), \(job.map { "\($0) was running" } ?? "no job was running")")
    let believesReady = kernel.defect == .readyIsBelieved
    if kernel.defect == .stoppedStayStopped { kernel.stoppedProcesses.removeAll() }
    if settled == .ready && (job == nil || believesReady) {
      beginClosed()
    } else {
      takeOverPages()
    }
    if isDead { return }
    isTakingOver = false
    kernel.isTakingOver = false
    history.lifecycle = Lifecycle(settled: settled, interrupted: job)
    guard let job else { return }
    history.lifecycle.started(job)
    kernel.log("BEGINS ANEW: \(job)")
    if kernel.defect == .interruptedMovesGoOn, job == .enable { return goOnMoving() }
    perform(plan.commands[history.commandsBegun - 1])
  }

  /// Every page is the guest's. Events may be left, and who joined just then may be registered.
  private func beginClosed() {
    for process in ports.processes { process.leftEvents.clear() }
    ports.freezer.resume()
    startThreads()
    for process in ports.processes {
      untilDone { () throws(PortFailure) in if process.isAlive { try process.unregister() } }
    }
  }

  private func takeOverPages() {
    if kernel.defect == .stoppedGoOnEarly { ports.freezer.resume() }
    if kernel.defect == .protectionEndsBeforePunchesAreSettled {
      kernel.dropProtection(PageIndex(0)..<PageIndex(kernel.map.pageCount))
    }
    if kernel.defect == .stagedIsBelievedOverGuest {
      for index in kernel.guest.indices {
        let page = PageIndex(index)
        if ports.table.record(of: page).state == .staged { kernel.punchPages(page..<(page + 1)) }
      }
    }
    if kernel.defect == .punchesAreRepeatedInPart { repeatPunches() }
    var job = TakeOver(memory: memory)
    untilDone { () throws(PortFailure) in try job.openBooks() }
    untilDone { () throws(PortFailure) in try job.begin() }
    // Only now: what a punch has left of a pinned page reads as zeros until it is repaired.
    ports.freezer.resume()
    startThreads()
    while !isDead {
      do throws(JobFailure) {
        switch try job.step() {
        case .again: kernel.scheduler.yield()
        case .retryAfter(let nanoseconds): kernel.scheduler.sleep(nanoseconds)
        case .finished: return
        }
      } catch {
        kernel.log("taking over fails: \(error)")
        check(error)
        kernel.scheduler.sleep(Self.pauseNanoseconds)
      }
    }
  }

  /// Planted.
  private func repeatPunches() {
    for index in kernel.guest.indices where ports.table.record(of: PageIndex(index)).state == .punching {
      kernel.punchPages(PageIndex(index)..<PageIndex(index + 1))
    }
    kernel.scheduler.sleep(Self.pauseNanoseconds)
  }

  /// Planted.
  private func goOnMoving() {
    memory.ledger.settleAllDiscards()
    var move = MoveService(memory: memory)
    do throws(JobFailure) {
      while try move.step() != .finished, !isDead { kernel.scheduler.sleep(Self.pauseNanoseconds) }
    } catch { kernel.log("fails: \(error)") }
    finish(.finished)
  }

  private func untilDone(_ body: () throws(PortFailure) -> Void) {
    while !isDead {
      do throws(PortFailure) { return try body() } catch {
        kernel.log("taking over fails: \(error)")
        check(.port(error))
        kernel.scheduler.sleep(Self.pauseNanoseconds)
      }
    }
  }
}
