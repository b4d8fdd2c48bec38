import Domain

/// What came of a history.
package struct HistoryOutcome: Sendable {
  package var failure: String?
  package var log: [String] = []
  package var steps = 0
  /// Of each port call that could have been made to fail, with how many error numbers.
  package var failureChoices: [Int] = []
  package var movedPages = 0
  /// Of these, by `out`.
  package var followedUpPages = 0
  package var writtenPages = 0
  package var zeroPages = 0
  package var unchangedPages = 0

  mutating func add(_ other: HistoryOutcome) {
    steps += other.steps
    movedPages += other.movedPages
    followedUpPages += other.followedUpPages
    writtenPages += other.writtenPages
    zeroPages += other.zeroPages
    unchangedPages += other.unchangedPages
  }
}

/// Runs a plan: the tenant's tasks, the daemon's threads and a client's commands, all interleaved under one seed.
package final class History: @unchecked Sendable {  // belongs to whoever holds the baton
  let plan: HistoryPlan
  let kernel: SimulatedKernel
  let ports: SimulatedPorts
  let memory: TenantMemory<SimulatedPorts>
  let queue: SimulatedFaultQueue
  var lifecycle = Lifecycle()
  var outcome = HistoryOutcome()
  var lastFreeze = FreezeMode.caller
  var isOver = false
  private var joining = 0
  var eventServiceIsIdle = false
  var releaserIsIdle = false
  var busyReaders = 0
  var daemons: [SimulatedThread] = []

  private init(plan: HistoryPlan, defect: Defect?, keepsLog: Bool) {
    self.plan = plan
    let map: RegionMap
    do throws(RegionError) {
      map = try RegionMap(plan.requests, files: plan.files, geometry: plan.geometry)
    } catch { preconditionFailure("the plan's regions are refused: \(error)") }
    kernel = SimulatedKernel(plan: plan, map: map, defect: defect, keepsLog: keepsLog)
    ports = SimulatedPorts(kernel: kernel, plan: plan)
    memory = TenantMemory(map: map, ports: ports, slotLimit: plan.slotLimit ?? .max)
    queue = SimulatedFaultQueue(kernel: kernel, limit: plan.queueLimit)
  }

  package static func run(_ plan: HistoryPlan, defect: Defect? = nil, keepsLog: Bool = false) -> HistoryOutcome {
    let history = History(plan: plan, defect: defect, keepsLog: keepsLog)
    history.run()
    return history.outcome
  }

  private func run() {
    for (number, task) in plan.tasks.enumerated() {
      let process = kernel.processes[task.process]
      let tenantTask = TenantTask(
        kernel: kernel, process: process, operations: task.operations, faultsInKernel: task.faultsInKernel)
      kernel.tasks.append(tenantTask)
      tenantTask.spawn("task \(number)")
    }
    for (process, delay) in zip(kernel.processes, plan.joinDelays) {
      guard let delay else { continue }
      kernel.scheduler.spawn("joiner \(process.index)") { self.join(process, after: delay) }
    }
    daemons.append(kernel.scheduler.spawn("events") { self.serveEvents() })
    for number in 0..<plan.readerCount {
      daemons.append(kernel.scheduler.spawn("reader \(number)") { self.serveFromFile() })
    }
    daemons.append(kernel.scheduler.spawn("releaser") { self.releaseStaging() })
    daemons.append(kernel.scheduler.spawn("cleaner") { self.cleanUp() })
    kernel.scheduler.spawn("commands") { self.carryOutCommands() }
    kernel.isRunning = true
    kernel.scheduler.run()
    kernel.isRunning = false
    if let stuck = kernel.scheduler.stuck {
      kernel.fail(stuck)
    } else if !ports.gate.isFree {
      kernel.fail("the gate is held at the end")
    }
    outcome.failure = kernel.failure
    outcome.log = kernel.lines
    outcome.steps = kernel.scheduler.steps
    outcome.failureChoices = kernel.injector.choices
  }

  // MARK: The daemon's threads

  private func serveEvents() {
    var service = EventService(memory: memory, files: queue)
    while !isOver {
      let report = service.step(ports.processes)
      if report.outsideAddress != nil { kernel.fail("a fault is outside of all regions") }
      if let failure = report.failure { check(failure) }
      let hasEvents = { self.isOver || self.mayReadEvents && self.kernel.processes.contains { $0.hasEvents } }
      if report.waiting > 0, kernel.defect != .nothingIsTriedAgain {
        kernel.scheduler.wait(for: "events, or another try", atMost: 50_000, until: hasEvents)
      } else {
        eventServiceIsIdle = true
        kernel.scheduler.wait(for: "events", until: hasEvents)
        eventServiceIsIdle = false
      }
    }
  }

  private var mayReadEvents: Bool {
    switch kernel.defect {
    case .nothingIsServedInFreezes: !kernel.processes.contains { $0.isToStop }
    case .eventsAreReadOnlyWhileMonitored: memory.ledger.isOpen
    default: true
    }
  }

  private func serveFromFile() {
    let faults = FaultService(memory: memory)
    let buffer = SimulatedBuffer(kernel: kernel, capacityPages: 1)
    while true {
      kernel.scheduler.wait(for: "a fault that needs the file") { !self.queue.isEmpty || self.isOver }
      guard let fault = queue.take() else { return }
      busyReaders += 1
      var waits = true
      while waits {
        switch faults.serveFromFile(fault.page, from: fault.process, buffer: buffer) {
        case .served, .processGone: waits = false
        case .needsFile, .retryLater: break
        case .outside: kernel.fail("a fault from the file is outside of all regions")
        case .failed(let failure): check(failure)
        }
        buffer.spoil()
        if waits { kernel.scheduler.sleep(50_000) }
      }
      busyReaders -= 1
    }
  }

  /// A process asks to be taken in, until it is.
  private func join(_ process: SimulatedProcess, after delay: UInt64) {
    joining += 1
    defer { joining -= 1 }
    kernel.scheduler.sleep(delay)
    while !isOver, !process.hasJoined, !process.isDying {
      do throws(PortFailure) {
        if kernel.defect == .lateJoinsAtOnce, memory.ledger.isOpen {
          try process.register()
          return ports.append(process)
        }
        if try memory.add(process) { return }
      } catch {}
      kernel.scheduler.sleep(20_000)
    }
  }

  private func releaseStaging() {
    var idleRounds = 0
    while !isOver {
      releaserIsIdle = true
      // Longer and longer while there is nothing to do: looking again and again would be most of a long wait's steps.
      let pause = kernel.random.within(1_000...plan.longestReleasePauseNanoseconds) << min(idleRounds, 5)
      kernel.scheduler.wait(for: "a while", atMost: UInt64(pause)) { self.isOver }
      idleRounds = memory.ledger.counts.releasable == 0 ? idleRounds + 1 : 0
      if idleRounds > 0 { continue }
      releaserIsIdle = false
      do throws(PortFailure) { _ = try memory.releaseStaging(limit: kernel.random.within(1...12)) } catch {}
    }
  }

  private func cleanUp() {
    let cleanup = FileCleanup(memory: memory)
    while !isOver {
      let pause = kernel.random.within(10_000...plan.longestReleasePauseNanoseconds * 4)
      kernel.scheduler.wait(for: "a while", atMost: UInt64(pause)) { self.isOver }
      guard cleanup.isNeeded else { continue }
      do throws(PortFailure) { try cleanup.step() } catch {}
    }
  }

  /// A fault that was read before the end of monitoring meets a range that is not registered any more (ENOENT), until
  /// the books are closed.
  private func check(_ failure: PortFailure) {
    if kernel.injector.failures > 0 || failure.errorNumber == SimulatedProcess.noEntry { return }
    kernel.fail("a fault can't be served, and nothing was made to fail: \(failure)")
  }

  var isAtRest: Bool {
    joining == 0 && eventServiceIsIdle && releaserIsIdle && queue.isEmpty && busyReaders == 0
      && !kernel.processes.contains { $0.hasEvents }
  }
}
