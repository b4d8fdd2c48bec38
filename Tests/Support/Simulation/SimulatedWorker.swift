import Domain

/// The daemon: its threads, and everything that is lost with them.
final class SimulatedWorker: @unchecked Sendable {  // belongs to whoever holds the baton
  let plan: HistoryPlan
  let kernel: SimulatedKernel
  let ports: SimulatedPorts
  let memory: TenantMemory<SimulatedPorts>
  let queue: SimulatedFaultQueue
  private(set) var threads: [SimulatedThread] = []
  private var ownHistory: History?
  private var joining = 0
  private var eventServiceIsIdle = false
  private var releaserIsIdle = false
  private var busyReaders = 0
  var isTakingOver = false

  init(plan: HistoryPlan, ports: SimulatedPorts) {
    self.plan = plan
    self.ports = ports
    kernel = ports.kernel
    memory = TenantMemory(map: kernel.map, ports: ports, slotLimit: plan.slotLimit ?? .max)
    queue = SimulatedFaultQueue(kernel: kernel, limit: plan.queueLimit)
  }

  var history: History {
    guard let ownHistory else { preconditionFailure("a worker runs outside of its history") }
    return ownHistory
  }

  var isOver: Bool { history.isOver || isDead }
  /// Only a killed worker's threads ever see that, when the history is over: then nothing that they do counts any more.
  var isDead: Bool { kernel.scheduler.isUnwinding }

  /// The first worker of a history.
  func start(in history: History) {
    ownHistory = history
    startThreads()
    spawn("commands") { self.carryOutCommands() }
  }

  /// A later one.
  func startAnew(in history: History) {
    ownHistory = history
    isTakingOver = true
    kernel.isTakingOver = true
    spawn("commands") {
      self.takeOver()
      self.carryOutCommands()
    }
  }

  func forgetHistory() { ownHistory = nil }

  func startThreads() {
    for (process, delay) in zip(kernel.processes, plan.joinDelays) where !process.hasJoined {
      let delay = isTakingOver ? min(delay ?? 0, Self.longestRejoinNanoseconds) : delay ?? 0
      spawn("joiner \(process.index)") { self.join(process, after: delay) }
    }
    spawn("events") { self.serveEvents() }
    for number in 0..<plan.readerCount { spawn("reader \(number)") { self.serveFromFile() } }
    spawn("helper") { self.ports.helper.serve { self.isOver } }
    spawn("releaser") { self.releaseStaging() }
    spawn("cleaner") { self.cleanUp() }
  }

  /// A client whose connection has ended asks again soon.
  private static var longestRejoinNanoseconds: UInt64 { 50_000 }

  private func spawn(_ name: String, _ body: @escaping () -> Void) {
    threads.append(kernel.scheduler.spawn(name, body))
  }

  // MARK: The daemon's threads

  private func serveEvents() {
    var service = EventService(memory: memory, files: queue)
    while !isOver {
      let report = service.step(ports.processes)
      let hasEnded = memory.ledger.isClosing || !memory.ledger.isOpen
      for child in service.takeChildren() { child.outlivesMonitoring = hasEnded }
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
      while waits, !isDead {
        switch faults.serveFromFile(fault.page, from: fault.process, buffer: buffer) {
        case .served, .processGone: waits = false
        case .unreadable(let page):
          fault.process.wake(page..<(page + 1))
          waits = false
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
    if process.isLeft {
      kernel.scheduler.wait(for: "the end of the take-over") { !self.isTakingOver || self.isOver }
      return process.hasJoined = true
    }
    while !isOver, !process.hasJoined, !process.isDying {
      if forks(process) {
        if kernel.processes[0].fork(process, until: { self.isOver }) { return }
        continue
      }
      process.isHeld = true
      do throws(PortFailure) {
        if kernel.defect == .lateJoinsAtOnce, memory.ledger.isOpen {
          try process.register()
          return ports.append(process)
        }
        if try memory.add(process) { return }
      } catch { process.isHeld = false }
      kernel.scheduler.sleep(20_000)
    }
  }

  /// Whether the process comes by a fork of the first one, which nobody announces: some do, while that one is monitored and runs.
  /// (Not where the worker may die: a child whose userfaultfd was read and not handed on is lost, and the log says so.)
  private func forks(_ process: SimulatedProcess) -> Bool {
    let parent = kernel.processes[0]
    return (plan.seed &+ UInt64(process.index)) % 3 == 0 && !plan.flavourMayDie && kernel.defect == nil
      && parent.isRegistered && !parent.isDying && !parent.isToStop && !kernel.isPausedByCaller
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
