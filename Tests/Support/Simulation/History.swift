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
  /// Workers that have died, and of those that died while they took over.
  package var deaths = 0
  package var deathsInTakeOver = 0

  mutating func add(_ other: HistoryOutcome) {
    steps += other.steps
    movedPages += other.movedPages
    followedUpPages += other.followedUpPages
    writtenPages += other.writtenPages
    zeroPages += other.zeroPages
    unchangedPages += other.unchangedPages
    deaths += other.deaths
    deathsInTakeOver += other.deathsInTakeOver
  }
}

/// Runs a plan: the tenant's tasks, the daemon's threads and a client's commands, all interleaved under one seed. What is here
/// outlives the daemon's workers, as the keeper's descriptors do.
package final class History: @unchecked Sendable {  // belongs to whoever holds the baton
  let plan: HistoryPlan
  let kernel: SimulatedKernel
  /// As it was written down last.
  var lifecycle = Lifecycle()
  /// How many of the plan's commands have begun; a job that runs is that of the last.
  var commandsBegun = 0
  var outcome = HistoryOutcome()
  var lastFreeze = FreezeMode.caller
  var isOver = false
  private var worker: SimulatedWorker

  /// A worker that dies and stores nothing any more dies all the same.
  private static var longestWaitForStores: Int { 300 }

  private init(plan: HistoryPlan, defect: Defect?, keepsLog: Bool) {
    self.plan = plan
    let map: RegionMap
    do throws(RegionError) {
      map = try RegionMap(plan.requests, files: plan.files, geometry: plan.geometry)
    } catch { preconditionFailure("the plan's regions are refused: \(error)") }
    kernel = SimulatedKernel(plan: plan, map: map, defect: defect, keepsLog: keepsLog)
    worker = SimulatedWorker(plan: plan, ports: SimulatedPorts(kernel: kernel, plan: plan))
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
    worker.start(in: self)
    if kernel.mayDie { kernel.scheduler.spawnUrgent("keeper") { self.keep() } }
    kernel.isRunning = true
    kernel.scheduler.run()
    kernel.isRunning = false
    if let stuck = kernel.scheduler.stuck {
      kernel.fail(stuck)
    } else if !worker.ports.gate.isFree {
      kernel.fail("the gate is held at the end")
    }
    outcome.failure = kernel.failure
    outcome.log = kernel.lines
    outcome.steps = kernel.scheduler.steps
    outcome.failureChoices = kernel.injector.choices
    worker.forgetHistory()
  }

  // MARK: Deaths

  private func keep() {
    let scheduler = kernel.scheduler
    for death in plan.deaths {
      scheduler.wait(for: "a command to begin") { self.isOver || self.commandsBegun >= death.command }
      let due = scheduler.steps + death.steps
      scheduler.wait(for: "the worker's death") { self.isOver || scheduler.steps >= due }
      if let stores = death.stores, !isOver {
        let (table, latest) = (worker.ports.table, scheduler.steps + Self.longestWaitForStores)
        table.dieAfter(stores: stores)
        scheduler.wait(for: "the worker's death") { self.isOver || table.hasDied || scheduler.steps >= latest }
      }
      if isOver { return }
      replaceWorker()
    }
  }

  private func replaceWorker() {
    kernel.log("THE WORKER DIES")
    outcome.deaths += 1
    if kernel.isTakingOver { outcome.deathsInTakeOver += 1 }
    for thread in worker.threads { kernel.scheduler.kill(thread) }
    for process in kernel.processes { process.isLeft = process.isHeld }
    // The client sees its connection end. Where pages are pinned it has to keep its tasks stopped until it is told more.
    if !kernel.hasPinnedPages, kernel.random.chance(perMille: 300) { kernel.isPausedByCaller = false }
    for process in kernel.processes { process.workerDied() }
    worker = SimulatedWorker(plan: plan, ports: SimulatedPorts(succeeding: worker.ports, plan: plan))
    kernel.earlyPunching = nil
    worker.startAnew(in: self)
  }
}
