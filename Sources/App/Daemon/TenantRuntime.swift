internal import Adapters
internal import Domain
internal import Synchronization

/// The threads that serve one tenant: one that drains its userfaultfds and serves faults, a few that wait for the disk on
/// behalf of faults, and one that runs jobs. A tenant's trouble stays on its own threads.
final class TenantRuntime: @unchecked Sendable {  // mutable fields are guarded by `monitor`
  /// Faults that wait for the disk at a time; the rest waits for another try.
  static let fileFaultCapacity = 1024
  /// Reads for faults that are under way at a time.
  static let fileFaultThreads = 2
  /// The jobs thread gives staged copies of returned pages back once no fault has come for so long.
  static let releaseDelayNanoseconds: UInt64 = 50_000_000
  /// So many are not let gather: an eighth of the tenant's memory, 128 MiB at most.
  var releaseBound: Int { min(memory.map.pageCount / 8, memory.map.geometry.pages(inBytes: UInt64(128 << 20))) }
  /// While faults come one by one, a few are given back right behind each of so many, when the next is still to come.
  static let rareFaultsPerRelease = 16
  static let releasedAtOnce = 24
  /// When faults that wait for another try get it.
  static let retryDelayNanoseconds: UInt64 = 200_000
  static let triesAfterRemove = 32
  static let failureDelayNanoseconds: UInt64 = 20_000_000

  /// What a client may ask for beside a command.
  struct JobOptions: Codable, Equatable, Sendable {
    /// Of `enable`.
    var accepts: AcceptedRisks = []
    /// Of `disable`: the swap file is emptied in the background.
    var cleansUpGradually = false
  }

  struct JobResult: Sendable {
    let job: TenantJob
    let end: JobEnd
    let failure: JobFailure?
    /// What the client should know, though all went well.
    var warnings: [String] = []
    /// Why `enable` has left pages resident, though all went well.
    var shortage: MemoryShortage?
  }

  let memory: TenantMemory<LinuxPorts>
  var holdings: TenantHoldings { memory.ports.holdings }
  let name: String
  let freeze: FreezeMode
  let log: Log
  let jobEnded: @Sendable (JobResult) -> Void
  let processGone: @Sendable (UserfaultProcess) -> Void
  private let childrenForked: @Sendable ([UserfaultProcess]) -> Void
  private let fileFaults = FileFaults()
  let wakeUp: WakeUp
  /// Which copies are to be given back, the more urgent behind the less.
  enum ReleaseCall: Int { case none, inQuiet, few, all }
  /// Written under `monitor`.
  let releaseCall = Atomic(ReleaseCall.none.rawValue)
  /// Grows while faults come.
  let faultSteps = Atomic(0)
  /// Where they are served.
  let faultProcessor = Atomic(0)
  let monitor = Monitor()
  var nextJob: TenantJob?
  var options = JobOptions()
  var isAborting = false
  private let ending = Atomic(false)
  var progress = StateTransition()
  var jobStartNanoseconds: UInt64?
  private var threads: [Thread] = []
  let waits: MemoryWait
  /// What an earlier worker has left half done is finished, as far as it must be before faults are served.
  var isOpen = false
  let jobLane = Lane("jobs")
  private let faultLane = Lane("faults")
  private let fileFaultLanes = (0..<TenantRuntime.fileFaultThreads).map { _ in Lane("file-faults") }
  let cleaner: FileCleaner

  private struct FileFaults: FileFaultQueue, Sendable {
    let queue = BoundedQueue<WaitingFault<UserfaultProcess>>(capacity: TenantRuntime.fileFaultCapacity)
    func offer(_ fault: WaitingFault<UserfaultProcess>) -> Bool { queue.offer(fault) }
  }

  /// - Parameters:
  ///   - jobEnded: called on the job's thread.
  ///   - processGone: called, perhaps often, when a process turns out to be dead before its pidfd says so.
  ///   - childrenForked: called when there are new ones, which are served already.
  init(
    name: String, memory: TenantMemory<LinuxPorts>, freeze: FreezeMode, log: Log,
    jobEnded: @escaping @Sendable (JobResult) -> Void, processGone: @escaping @Sendable (UserfaultProcess) -> Void,
    childrenForked: @escaping @Sendable ([UserfaultProcess]) -> Void
  ) throws(SystemError) {
    self.name = name
    self.memory = memory
    self.freeze = freeze
    self.log = log
    waits = MemoryWait(tenant: name, log: log)
    cleaner = FileCleaner(memory: memory, tenant: name, log: log)
    self.jobEnded = jobEnded
    self.processGone = processGone
    self.childrenForked = childrenForked
    wakeUp = try WakeUp()
  }

  /// - Parameter takeOver: what is to be done where an earlier worker has left the tenant: before faults are served, and then
  ///   before any job.
  func start(_ takeOver: LeftTenant? = nil) throws(SystemError) {
    if takeOver == nil { open() }
    do throws(SystemError) {
      threads.append(try Thread(name: name(of: "faults")) { [self] in serveFaults() })
      for lane in fileFaultLanes {
        let buffer = try LockedBuffer(pages: 1, geometry: memory.map.geometry, hasher: memory.ports.table.hasher)
        threads.append(try Thread(name: name(of: "file-faults")) { [self] in serveFileFaults(buffer, lane) })
      }
      threads.append(try Thread(name: name(of: "cleanup")) { [cleaner] in cleaner.run() })
      threads.append(
        try Thread(name: name(of: "jobs")) { [self] in
          if let takeOver { self.takeOver(takeOver) }
          memory.ports.freezer.resume()  // an earlier worker may have paused the tenant's machine
          runJobs()
        })
    } catch {
      shutDown()
      throw error
    }
  }

  /// Takes in another process; waits, should monitoring just be ended.
  ///
  /// - Returns: once its faults are being served; false when the tenant has ended meanwhile.
  func add(_ process: UserfaultProcess) throws(PortFailure) -> Bool {
    waitUntilOpen()
    while !mustEnd {
      if try memory.add(process) {
        wakeUp.signal()
        return true
      }
      pause(Self.retryDelayNanoseconds)
    }
    return false
  }

  /// Finds out which processes forked children are. Waits for /proc, and for children that can't be seen yet.
  ///
  /// - Parameter report: called after each look, with whether it was the last.
  func identifyChildren(_ report: (Bool) -> Void) {
    var delay = Self.retryDelayNanoseconds
    waitUntilOpen()  // until then, protection is not to be touched
    while !mustEnd {
      memory.ports.identifyChildren()
      for process in memory.ports.processes where !process.isAlive { processGone(process) }
      let areAll = !memory.ports.processes.contains { $0.handle == nil && $0.isAlive }
      report(areAll)
      if areAll { return }
      pause(delay)
      delay = min(delay * 2, Self.longestIdentifyDelayNanoseconds)
    }
  }

  private static let longestIdentifyDelayNanoseconds: UInt64 = 1_000_000_000

  /// Forgets a dead process.
  ///
  /// - Returns: how many are left.
  func remove(_ process: UserfaultProcess) -> Int {
    defer { wakeUp.signal() }
    return memory.ports.processList.remove(process)
  }

  /// - Precondition: no job runs.
  func begin(_ job: TenantJob, options: JobOptions) {
    monitor.withLock {
      self.options = options
      nextJob = job
      isAborting = false
      progress = StateTransition()
      jobStartNanoseconds = memory.ports.clock.nowNanoseconds
      monitor.wakeAll()
    }
  }

  /// Ends the running job after its current step.
  func abortJob() {
    monitor.withLock {
      isAborting = true
      monitor.wakeAll()
    }
  }

  var waitsForMemory: Bool { waits.isOn }

  /// The last or the running job's pages and time.
  var transition: StateTransition {
    monitor.withLock {
      var transition = progress
      if let start = jobStartNanoseconds { transition.nanoseconds = memory.ports.clock.nowNanoseconds - start }
      return transition
    }
  }

  /// Ends all threads and waits for them; pages that are not the guest's by then are lost to it, so the tenant is dead or
  /// everything is back.
  func shutDown() {
    monitor.withLock {
      ending.store(true, ordering: .relaxed)
      isAborting = true
      monitor.wakeAll()
    }
    wakeUp.signal()
    cleaner.end()
    fileFaults.queue.close()
    for thread in threads { thread.join() }
    threads = []
    for process in memory.ports.processes where process.isAlive { process.settleLateEvents() }
    if memory.ledger.isOpen {
      memory.ledger.close()
      memory.ports.destroyStaging()
    }
  }

  private func name(of thread: String) -> String { Thread.name(thread, of: memory.ports.holdings.group) }

  /// Changes under `monitor`.
  var mustEnd: Bool { ending.load(ordering: .relaxed) }

  func open() {
    monitor.withLock {
      isOpen = true
      monitor.wakeAll()
    }
  }

  private func waitUntilOpen() { monitor.withLock { while !isOpen && !mustEnd { monitor.wait() } } }

  /// What takes so long that the kernel, or the disk, must be in the way.
  var stuckLanes: [Lane] { (fileFaultLanes + [faultLane, jobLane]).filter(\.isStuck) }

  // MARK: Faults

  private func serveFaults() {
    var service = EventService(memory: memory, files: fileFaults)
    var waiter = FaultWaiter(wakeUp: wakeUp)
    var watched: [UserfaultProcess] = []
    var ready: [UserfaultProcess] = []
    var timeout: UInt64?
    var hasServed = false
    var rareFaults = 0
    let log = Log.Limited(log)
    Thread.askForShortSlices()
    waitUntilOpen()
    while !mustEnd {
      let processes = memory.ports.processes
      if !processes.elementsEqual(watched, by: ===) {
        watched = processes
        waiter.watch(processes.map(\.userfaultfd))
      }
      _ = waiter.wait(timeoutNanoseconds: timeout, servedSomething: hasServed)
      faultLane.enter()
      defer { faultLane.leave() }
      ready.removeAll(keepingCapacity: true)
      for number in waiter.ready { ready.append(watched[number]) }
      var report = service.step(ready)
      if report.events > report.removes {
        memory.ports.helper.activity.note()
        faultSteps.add(1, ordering: .relaxed)
        faultProcessor.store(Thread.processor, ordering: .relaxed)
      }
      hasServed = report.events > report.queued  // who reads the disk for the others needs the processor more
      // Until a remover has run on, nothing can be installed; and one that removes without pause soon waits again. In between
      // is when faults are to be served, so they are tried before the next read lets it on.
      if report.removes > 0 {
        for _ in 0..<Self.triesAfterRemove where report.waiting > 0 {
          Thread.yield()
          report.waiting = service.step([]).waiting
        }
      }
      if report.removes > 0 { cleaner.ask() }
      let gone = service.takeProcessGone()
      if let gone { processGone(gone) }
      let children = service.takeChildren()
      if !children.isEmpty { childrenForked(children) }
      if let address = report.outsideAddress {
        log.warning(
          "tenant \(name): a fault at 0x\(String(address, radix: 16)), in no region; its thread waits for ever")
      }
      if let failure = report.failure, gone == nil {
        log.warning("tenant \(name): \(ProtocolError(failure).message)")
      }
      if hasServed, !waiter.isLooking { rareFaults += 1 }
      let isTime = rareFaults >= Self.rareFaultsPerRelease
      if isTime { rareFaults = 0 }
      expectRelease(of: memory.ledger.counts.releasable, mayBeFew: isTime)
      timeout =
        report.waiting == 0
        ? nil : report.failure == nil ? Self.retryDelayNanoseconds : Self.failureDelayNanoseconds
    }
  }

  /// - Parameter mayBeFew: so many faults have come one by one that a few copies are given back.
  private func expectRelease(of copies: Int, mayBeFew: Bool) {
    if copies > 0 { callRelease(copies >= releaseBound ? .all : mayBeFew ? .few : .inQuiet) }
  }

  /// Wakes the jobs thread, should it wait for less.
  func callRelease(_ call: ReleaseCall) {
    if call.rawValue <= releaseCall.load(ordering: .relaxed) { return }
    monitor.withLock {
      releaseCall.store(call.rawValue, ordering: .relaxed)
      monitor.wakeAll()
    }
  }

  private func serveFileFaults(_ buffer: LockedBuffer, _ lane: Lane) {
    let service = FaultService(memory: memory)
    let log = Log.Limited(log)
    while let fault = fileFaults.queue.take() {
      let process = fault.process
      lane.enter()
      defer { lane.leave() }
      switch service.serveFromFile(fault.page, from: process, buffer: buffer) {
      case .served, .outside: break
      case .unreadable(let page):
        log.error(
          "tenant \(name): \(text(page)) can't be read back right from the swap file: whoever touches it gets SIGBUS")
        process.wake(page..<(page + 1))
      case .processGone: processGone(process)
      case .failed(let failure):
        log.warning("tenant \(name): \(ProtocolError(failure).message)")
        pause(Self.failureDelayNanoseconds)
        process.wake(fault.page..<(fault.page + 1))
      case .retryLater, .needsFile:
        // Woken, its thread faults again; so nothing is kept here.
        process.wake(fault.page..<(fault.page + 1))
      }
    }
  }
}
