package import Domain

/// A history that a test tells line by line, over the simulated kernel, in which nothing fails by chance. The test's lines
/// are the tenant and the client in one thread; the daemon's threads serve its faults and removes meanwhile.
package final class Scene: @unchecked Sendable {  // belongs to whoever holds the baton
  /// Where a region begins in its file, and how long it is, in pages. Each region has a file of its own.
  package struct Place: Sendable {
    let filePage: Int
    let pages: Int

    package init(pages: Int, filePage: Int = 0) {
      self.pages = pages
      self.filePage = filePage
    }
  }

  package let kernel: SimulatedKernel
  package let ports: SimulatedPorts
  package let memory: TenantMemory<SimulatedPorts>
  private let queue: SimulatedFaultQueue
  private var isOver = false
  private var failure: (any Error)?

  /// - Parameters:
  ///   - contents: of every page of the guest; nil is a hole.
  ///   - processes: how many map the memory; all but the first `joined` have not joined yet.
  ///   - script: what happens. It throws where something is not as it should be.
  package static func play(
    _ places: [Place], processes: Int = 1, joined: Int = .max, contents: (Int) -> UInt64?,
    _ script: @escaping (Scene) throws -> Void
  ) throws {
    let scene = Scene(HistoryPlan(places, processes: processes, joined: joined, contents: contents))
    let scheduler = scene.kernel.scheduler
    scheduler.spawn("events") { scene.serveEvents() }
    scheduler.spawn("reader") { scene.serveFromFile() }
    scheduler.spawn("script") {
      do { try script(scene) } catch { scene.failure = error }
      scene.isOver = true
    }
    scene.kernel.isRunning = true
    scheduler.run()
    scene.kernel.isRunning = false
    if let failure = scene.failure { throw failure }
    if let problem = scheduler.stuck ?? scene.kernel.failure { throw Mismatch(problem) }
  }

  private init(_ plan: HistoryPlan) {
    let map: RegionMap
    do throws(RegionError) {
      map = try RegionMap(plan.requests, files: plan.files, geometry: plan.geometry)
    } catch { preconditionFailure("the scene's regions are refused: \(error)") }
    kernel = SimulatedKernel(plan: plan, map: map, defect: nil, keepsLog: true)
    kernel.injector.isOn = false
    ports = SimulatedPorts(kernel: kernel, plan: plan)
    memory = TenantMemory(map: map, ports: ports)
    queue = SimulatedFaultQueue(kernel: kernel, limit: plan.queueLimit)
  }

  package var counts: PageCounts { memory.ledger.counts }

  /// The port calls so far that begin so, each without who made it.
  package func calls(_ name: String) -> [String] {
    kernel.lines.compactMap { line in
      guard let start = line.firstRange(of: ": ")?.upperBound, line[start...].hasPrefix(name) else { return nil }
      return String(line[start...])
    }
  }

  // MARK: The client

  @discardableResult
  package func enable() throws -> Int {
    var job = EnableJob(memory: memory, freeze: .signal)
    return try finish(&job)
  }

  @discardableResult
  package func out() throws -> Int {
    var job = SwapOutJob(memory: memory)
    return try finish(&job)
  }

  @discardableResult
  package func disable() throws -> Int {
    var job = DisableJob(memory: memory)
    return try finish(&job)
  }

  package func trim() throws -> (zero: Int, unchanged: Int) {
    var job = TrimJob(memory: memory)
    _ = try finish(&job)
    return (job.zeroPages, job.unchangedPages)
  }

  /// Runs a job to its end, and tells its pages.
  package func finish<Job: SteppedJob>(_ job: inout Job) throws -> Int {
    while try step(&job) {}
    return job.pages
  }

  /// - Returns: false once the job has finished.
  package func step<Job: SteppedJob>(_ job: inout Job) throws -> Bool {
    switch try job.step() {
    case .again: kernel.scheduler.yield()
    case .retryAfter(let nanoseconds): kernel.scheduler.sleep(nanoseconds)
    case .finished: return false
    }
    return true
  }

  // MARK: The tenant

  /// - Returns: what the page reads as; nil is SIGBUS.
  package func read(_ page: Int, by process: Int = 0) -> UInt64? {
    let isThere = access(PageIndex(page), by: kernel.processes[process], writing: false)
    return isThere ? kernel.guest[page] ?? 0 : nil
  }

  package func write(_ value: UInt64, to page: Int, by process: Int = 0) {
    guard access(PageIndex(page), by: kernel.processes[process], writing: true) else { return }
    kernel.guest[page] = value
  }

  /// madvise(MADV_REMOVE): the page is gone when this returns.
  package func remove(_ pages: Range<Int>, by process: Int = 0) {
    let range = PageIndex(pages.lowerBound)..<PageIndex(pages.upperBound)
    if kernel.processes[process].isRegistered { kernel.processes[process].announce(RemoveCall(range: range, begun: 0)) }
    kernel.punchPages(range)
  }

  /// munmap of everything: nothing is registered any more.
  package func unmap(_ process: Int) { kernel.processes[process].isRegistered = false }

  package func kill(_ process: Int) { kernel.processes[process].isDying = true }

  private func access(_ page: PageIndex, by process: SimulatedProcess, writing: Bool) -> Bool {
    while true {
      let waitsForProtection: Bool
      switch process.access(page, writing: writing) {
      case .done: return true
      case .poisoned: return false
      case .protected: waitsForProtection = true
      case .hole:
        if !process.isRegistered {
          kernel.guest[page.rawValue] = 0
          return true
        }
        waitsForProtection = false
      }
      process.wait(FaultWaiter(page: page, waitsForProtection: waitsForProtection)) { false }
    }
  }

  // MARK: The daemon

  private func serveEvents() {
    var service = EventService(memory: memory, files: queue)
    while !isOver {
      let report = service.step(ports.processes)
      if report.outsideAddress != nil || report.failure != nil { kernel.fail("a fault is not served: \(report)") }
      let hasEvents = { self.isOver || self.kernel.processes.contains { $0.hasEvents } }
      if report.waiting > 0 {
        kernel.scheduler.wait(for: "another try", atMost: 50_000, until: hasEvents)
      } else {
        kernel.scheduler.wait(for: "events", until: hasEvents)
      }
    }
  }

  private func serveFromFile() {
    let faults = FaultService(memory: memory)
    let buffer = SimulatedBuffer(kernel: kernel, capacityPages: 1)
    while true {
      kernel.scheduler.wait(for: "a fault that needs the file") { !self.queue.isEmpty || self.isOver }
      guard let fault = queue.take() else { return }
      while true {
        let outcome = faults.serveFromFile(fault.page, from: fault.process, buffer: buffer)
        if outcome == .served || outcome == .unreadable(fault.page) { break }
        kernel.scheduler.sleep(50_000)
      }
    }
  }
}

extension HistoryPlan {
  /// Nothing is left to chance but the order of threads.
  fileprivate init(_ places: [Scene.Place], processes: Int, joined: Int, contents: (Int) -> UInt64?) {
    guard let geometry = PageGeometry(pageBytes: 4096, hugePageBytes: 4 * 4096) else {
      preconditionFailure("these are page sizes")
    }
    self.geometry = geometry
    var address: UInt64 = 1 << 30
    var requests: [RegionRequest] = []
    for (file, place) in places.enumerated() {
      let size = UInt64(geometry.bytes(inPages: place.pages))
      let offset = UInt64(geometry.bytes(inPages: place.filePage))
      requests.append(RegionRequest(address: address, size: size, file: file, offset: offset))
      address += size + UInt64(geometry.bytes(inPages: 3))  // a gap
    }
    self.requests = requests
    files = requests.map {
      GuestFile(identity: FileIdentity(device: 1, inode: UInt64($0.file)), size: $0.offset + $0.size)
    }
    self.contents = (0..<places.reduce(0) { $0 + $1.pages }).map(contents)
    processCount = processes
    joinDelays = (0..<processes).map { $0 < joined ? nil : 0 }
    (seed, scheduleSeed, policy, delaysPerMille) = (1, 1, .random(stickyPerMille: 500), 0)
    (faults, corruptsPerMille, slowRemovesPerMille, slowCopiesPerMille) = (.none, 0, 0, 0)
    (readerCount, queueLimit, longestReleasePauseNanoseconds) = (1, 8, 20_000)
    (readBuffers, readBufferPages) = (2, 4)
    (restsBeforeEnd, commands, tasks) = (false, [], [])
  }
}
