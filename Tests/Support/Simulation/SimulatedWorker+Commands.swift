import Domain

/// The client's side of a history: commands, one after another, and what must hold at the end.
extension SimulatedWorker {
  private static var disableAttempts: Int { 40 }

  func carryOutCommands() {
    while history.commandsBegun < plan.commands.count {
      let command = plan.commands[history.commandsBegun]
      kernel.scheduler.sleep(command.pauseNanoseconds)
      if isDead { return }
      history.commandsBegun += 1
      carryOut(command)
    }
    if isDead { return }
    bringToRest()
    end()
    history.isOver = true
  }

  private var isTenantGone: Bool { kernel.processes.allSatisfy { $0.isGone } }

  private func carryOut(_ command: HistoryPlan.Command) {
    kernel.log("COMMAND \(command.action)")
    switch command.action {
    case .kill(let process):
      // With the last process that has joined, the tenant would end while others still ask to be taken in.
      if kernel.processes.allSatisfy(\.hasJoined) { kernel.processes[process].isDying = true }
    case .enable: if start(.enable) { perform(command) }
    case .trim: if start(.trim) { perform(command) }
    case .out: if start(.out) { perform(command) }
    case .disable: if start(.disable) { perform(command) }
    }
  }

  /// - Precondition: the life cycle says that its job runs.
  func perform(_ command: HistoryPlan.Command) {
    switch command.action {
    case .kill: break
    case .enable(let freeze, let isPaused): enable(freeze, isPaused: isPaused)
    case .trim:
      var job = TrimJob(memory: memory)
      finish(run(&job, abortsAfter: command.abortsAfter))
      history.outcome.zeroPages += job.zeroPages
      history.outcome.unchangedPages += job.unchangedPages
    case .out:
      var job = OutJob(memory: memory, freeze: history.lastFreeze)
      finish(run(&job, abortsAfter: command.abortsAfter))
      history.outcome.writtenPages += job.pages
      history.outcome.movedPages += job.movedPages
      history.outcome.followedUpPages += job.movedPages
      checkNobodyIsStopped()
    case .disable:
      if kernel.defect == .unregisteredEarly { unregisterAll() }
      var job = DisableJob(memory: memory, cleansUpGradually: kernel.random.chance(perMille: 300))
      finish(run(&job, abortsAfter: command.abortsAfter))
    }
  }

  private func start(_ job: TenantJob) -> Bool {
    let command: TenantCommand =
      switch job {
      case .enable: .enable
      case .trim: .trim
      case .out: .out
      case .disable: .disable
      }
    guard history.lifecycle.decide(command, hasStagedPages: memory.ledger.counts.staged > 0) == .start(job) else {
      return false
    }
    kernel.perhapsTheEnd()
    if isDead { return false }
    history.lifecycle.started(job)
    kernel.perhapsTheEnd()
    return true
  }

  func finish(_ end: JobEnd) {
    kernel.log("ends: \(end)")
    kernel.perhapsTheEnd()
    if isDead { return }
    history.lifecycle.ended(end)
    if !ports.readAhead.isIdle { kernel.fail("a job has ended, and holds buffers of the read-ahead") }
  }

  private func enable(_ freeze: FreezeMode, isPaused: Bool) {
    history.lastFreeze = freeze
    let wasOpen = memory.ledger.isOpen
    if freeze == .caller, isPaused {
      kernel.isPausedByCaller = true
      kernel.scheduler.wait(for: "the tenant to stop its tasks") {
        self.kernel.tasks.allSatisfy { $0.isFinished || $0.isStopped }
          || self.kernel.defect == .nothingHoldsWriters
      }
    }
    var job = EnableJob(memory: memory, freeze: freeze)
    let end = run(&job, abortsAfter: nil)
    history.outcome.movedPages += job.pages
    if case .failed = end {
      finish(.failed(unchanged: wasOpen == memory.ledger.isOpen && job.pages == 0))
    } else {
      finish(end)
    }
    checkNobodyIsStopped()
    kernel.isPausedByCaller = false
  }

  private func checkNobodyIsStopped() {
    if kernel.processes.contains(where: { $0.isToStop }) { kernel.fail("a job has ended, and left the tenant stopped") }
  }

  private func run<Job: SteppedJob>(_ job: inout Job, abortsAfter: Int?) -> JobEnd {
    var steps = 0
    while true {
      if isTenantGone || isDead || job.mayAbort && abortsAfter.map({ steps >= $0 }) == true {
        job.abort()
        return .aborted
      }
      steps += 1
      do throws(JobFailure) {
        switch try job.step() {
        case .again: kernel.scheduler.yield()
        case .retryAfter(let nanoseconds): kernel.scheduler.sleep(nanoseconds)
        case .finished: return .finished
        }
      } catch {
        kernel.log("fails: \(error)")
        if kernel.defect == .unreadableIsUnregistered, case .unreadable = error { unregisterAll() }
        check(error)
        return .failed(unchanged: false)
      }
    }
  }

  /// Planted.
  private func unregisterAll() {
    for process in ports.processes {
      do throws(PortFailure) { try process.unregister() } catch { kernel.log("can't be unregistered: \(error)") }
    }
  }

  /// Nothing fails of itself.
  func check(_ failure: JobFailure) {
    switch failure {
    case .tenantGone: if !isTenantGone { kernel.fail("a job says that the tenant is gone, and it lives") }
    case .port(PortFailure(.limitSwapFile, errorNumber: ErrorNumber.noSpace)):
      if plan.slotLimit == nil { kernel.fail("the swap file reaches a limit, and has none") }
    case .unreadable, .port, .freezeTimedOut, .kernelAccess, .strangeMapping:
      let isExcused = kernel.injector.failures > 0 || plan.corruptsPerMille > 0 || plan.commands.contains { $0.isKill }
      if !isExcused { kernel.fail("a job fails, and nothing was made to fail: \(failure)") }
    }
  }

  // MARK: The end

  /// In some histories the tenant's tasks end before the last disable: what is left in staging is then exact.
  private func bringToRest() {
    guard plan.restsBeforeEnd else { return }
    endTasks()
    guard kernel.injector.failures == 0, !isTenantGone, memory.ledger.isOpen else { return }
    kernel.injector.isOn = false
    kernel.scheduler.wait(for: "the daemon to come to rest") { self.isAtRest }
    do throws(PortFailure) { while try memory.releaseStaging(limit: 16) > 0 {} } catch {
      return kernel.fail("giving staging memory back fails, and nothing was made to fail: \(error)")
    }
    // The releaser may have woken meanwhile, and be in the middle of giving back what it has taken.
    kernel.scheduler.wait(for: "the daemon to come to rest again") { self.isAtRest }
    for index in kernel.staging.indices {
      let state = memory.ledger.record(of: PageIndex(index)).state
      let isThere = kernel.staging[index] != nil
      if isThere != (state == .staged) {
        kernel.fail("page \(index) is \(state), and \(isThere ? "has" : "has no") memory in staging, at rest")
      }
    }
  }

  private func endTasks() {
    for task in kernel.tasks { task.isToEnd = true }
    kernel.scheduler.wait(for: "the tenant's tasks to end") { self.kernel.tasks.allSatisfy { $0.isFinished } }
  }

  private func end() {
    kernel.log("THE END BEGINS")
    kernel.injector.isOn = false
    disableAtLast()
    endTasks()
    kernel.scheduler.wait(for: "the daemon to come to rest") { self.isAtRest }
    // A child that was forked just as monitoring ended is registered until the next end.
    while !isTenantGone, !isDead, kernel.processes.contains(where: { $0.isForked && $0.isAlive && $0.isRegistered }) {
      var job = EnableJob(memory: memory, freeze: .signal)
      _ = run(&job, abortsAfter: nil)
      disableAtLast()
      kernel.scheduler.wait(for: "the daemon to come to rest once more") { self.isAtRest }
    }
    if isTenantGone { return forgetTenant() }
    let counts = memory.ledger.counts
    if memory.ledger.isOpen || !counts.allReturned || counts.releasable > 0 || counts.pinnedRuns > 0 {
      kernel.fail("the books are not closed: \(counts)")
    }
    if kernel.stagingExists { kernel.fail("staging memory is left") }
    if !ports.file.isEmpty { kernel.fail("the swap file is not empty") }
    if kernel.processes.contains(where: { $0.isAlive && $0.isRegistered && !$0.outlivesMonitoring }) {
      kernel.fail("a process stays registered")
    }
    for process in kernel.processes where process.isAlive && process.isPoisonedAnywhere {
      kernel.fail("process \(process.index) stays poisoned")
    }
    for index in kernel.guest.indices {
      let value = kernel.guest[index] ?? 0
      if let expected = kernel.model.read(value, from: PageIndex(index)) {
        kernel.fail("page \(index) is \(value) at the end, and should be \(expected)")
      }
    }
  }

  private func disableAtLast() {
    for _ in 0..<Self.disableAttempts {
      if isTenantGone || isDead { return }
      var job = DisableJob(memory: memory)
      while !isDead {
        do throws(JobFailure) {
          switch try job.step() {
          case .again: kernel.scheduler.yield()
          case .retryAfter(let nanoseconds): kernel.scheduler.sleep(nanoseconds)
          case .finished: return
          }
        } catch {
          kernel.log("disable fails: \(error)")
          check(error)
          ports.file.repair()
          break
        }
      }
    }
    if !isTenantGone { kernel.fail("disable fails again and again, and nothing is made to fail any more") }
  }

  /// All of its processes are dead: whatever its pages held is of no use to anybody.
  private func forgetTenant() {
    ports.gate.exclusive { memory.ledger.close() }
    ports.destroyStaging()
  }
}

extension HistoryPlan.Command {
  fileprivate var isKill: Bool { if case .kill = action { true } else { false } }
}
