import Domain

/// What a worker does first that follows one that has died.
extension SimulatedWorker {
  private static var pauseNanoseconds: UInt64 { 50_000 }

  func takeOver() {
    let (settled, job) = (history.lifecycle.settled, history.lifecycle.job)
    kernel.log("TAKES OVER: \(settled), \(job.map { "\($0) was running" } ?? "no job was running")")
    if settled == .ready && job == nil {
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
    var job = TakeOver(memory: memory)
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

  private func untilDone(_ body: () throws(PortFailure) -> Void) {
    while !isDead {
      do throws(PortFailure) { return try body() } catch {
        kernel.log("taking over fails: \(error)")
        check(.port(error))
        kernel.scheduler.sleep(Self.pauseNanoseconds)
      }
    }
  }

  /// Planted bugs in what outlives a worker.
  func plantDeathDefects() {}
}
