/// `disable`: brings everything back, first from staging, then from the swap file in file order, reading ahead; then stops
/// monitoring, and empties the file. Faults are served all the while.
///
/// Memory: installed pages are charged to the tenant's control group, and what comes from the file is more than the machine
/// had in use. (What comes from staging is given back chunk by chunk, so that one chunk more is in use for an instant.)
/// Where a chunk has no room, the job waits, and holds nothing that others may need.
package struct DisableJob<Ports: TenantPorts>: SteppedJob {
  private enum Phase {
    case staging
    case file
    case closing
  }

  package var pages: Int { stagedPages + file.pages }
  private var stagedPages = 0
  package private(set) var shortage: MemoryShortage?
  private let memory: TenantMemory<Ports>
  private let cleansUpGradually: Bool
  private var returns: PageReturn<Ports> { PageReturn(memory: memory) }
  private var phase = Phase.staging
  private var stagingCursor = PageIndex(0)
  private var file: FileReturn<Ports>
  private var sizer: ChunkSizer

  /// - Parameter cleansUpGradually: the swap file's content is left to `FileCleanup`.
  package init(memory: TenantMemory<Ports>, cleansUpGradually: Bool = false) {
    self.memory = memory
    self.cleansUpGradually = cleansUpGradually
    file = FileReturn(memory: memory)
    sizer = ChunkSizer(largest: memory.map.geometry.hugePagePages)
  }

  package mutating func step() throws(JobFailure) -> JobStep {
    do throws(JobFailure) {
      switch phase {
      case .staging: return try installFromStaging()
      case .file: return try installFromFile()
      case .closing: return try close()
      }
    } catch {
      abort()
      throw error
    }
  }

  package mutating func abort() { file.abort() }

  // MARK: Memory

  private mutating func hasRoom(for pages: Int, fromFile: Bool) -> Bool {
    shortage = pages == 0 ? nil : memory.ports.headroom.shortage(of: pages, for: .returning(fromFile: fromFile))
    return shortage == nil
  }

  /// What was read ahead is given up, and read again later: its buffers are of all tenants' one budget.
  private mutating func waitForRoom() -> JobStep {
    abort()
    file.restart()
    memory.releaseIfPossible(limit: memory.map.geometry.hugePagePages)
    return .retryAfter(nanoseconds: RetryDelay.headroom)
  }

  // MARK: From staging

  private mutating func installFromStaging() throws(JobFailure) -> JobStep {
    guard let process = memory.ports.processes.first(where: { $0.isAlive }) else { throw .tenantGone }
    let limit = sizer.next(faultCount: memory.ledger.counts.faults.total)
    // While faults come, one processor is theirs. Where none do, two who meet seldom wait little for each other.
    var windows = stagedWindows(limit < sizer.largest ? 1 : 2 * Self.windowsPerHand, limit: limit)
    guard !windows.isEmpty else {
      phase = .file
      file.restart()
      return .again
    }
    func most() -> Int { min(windows.reduce(0) { $0 + $1.count }, memory.ledger.counts.staged) }
    if windows.count > 1, !hasRoom(for: most(), fromFile: false) { windows = [windows[0]] }
    guard windows.count > 1 || hasRoom(for: most(), fromFile: false) else { return waitForRoom() }
    let returns = returns
    let (mine, others) = memory.ports.helper.both(windows) { returns.bringBack($0, by: process) }
    let outcomes = [mine, others]
    for outcome in outcomes { stagedPages += outcome.pages }
    if let failure = outcomes.lazy.compactMap(\.failure).first { throw .port(failure) }
    let stop = outcomes.lazy.compactMap(\.stop).first
    stagingCursor = outcomes.allSatisfy(\.isWhole) ? windows[windows.count - 1].upperBound : windows[0].lowerBound
    return try next(after: stop)
  }

  /// The next windows with staged pages.
  private func stagedWindows(_ count: Int, limit: Int) -> [PageRange] {
    var windows: [PageRange] = []
    while windows.count < count {
      let start = windows.last?.upperBound ?? stagingCursor
      guard let window = stagedWindow(from: start, limit: limit) else { break }
      windows.append(window)
    }
    return windows
  }

  private static var windowsPerHand: Int { 16 }

  /// So many pages from the next staged one on, cut at their region's end.
  private func stagedWindow(from start: PageIndex, limit: Int) -> PageRange? {
    let end = PageIndex(memory.map.pageCount)
    guard let first = memory.ledger.nextStaged(from: start, before: end, limit: 1)?.lowerBound else { return nil }
    return first..<min(first + limit, memory.map.regions[memory.map.regionIndex(of: first)].pages.upperBound)
  }

  // MARK: From the file

  private static var readsPerHand: Int { 16 }

  private mutating func installFromFile() throws(JobFailure) -> JobStep {
    guard let process = memory.ports.processes.first(where: { $0.isAlive }) else { throw .tenantGone }
    let limit = sizer.next(faultCount: memory.ledger.counts.faults.total)
    // While faults come, one processor is theirs.
    var (hands, reads) = limit < sizer.largest ? (1, 1) : (2, Self.readsPerHand)
    func most() -> Int { min(hands * reads * memory.map.geometry.hugePagePages, memory.ledger.counts.file) }
    if hands > 1, !hasRoom(for: most(), fromFile: true) { (hands, reads) = (1, 1) }
    guard hands > 1 || hasRoom(for: most(), fromFile: true) else { return waitForRoom() }
    switch file.step(by: process, .init(pagesPerHold: limit, hands: hands, readsPerHand: reads)) {
    case .again: return .again
    case .stopped(let stop): return try next(after: stop)
    case .noBuffer: return .retryAfter(nanoseconds: RetryDelay.slot)
    case .nothingLeft:
      phase = .closing
      return .again
    }
  }

  // MARK: Both

  private func next(after stop: InstallResult.Stop?) throws(JobFailure) -> JobStep {
    switch stop {
    case nil, .alreadyPresent: return .again
    case .eventPending: return .retryAfter(nanoseconds: RetryDelay.event)
    case .outOfMemory: return .retryAfter(nanoseconds: RetryDelay.memory)
    case .processGone: return .retryAfter(nanoseconds: RetryDelay.event)
    case .failed(let number): throw .port(PortFailure(.installPage, errorNumber: number))
    }
  }

  // MARK: The end of monitoring

  private mutating func close() throws(JobFailure) -> JobStep {
    let counts = memory.ledger.counts
    guard counts.staged == 0 else {
      phase = .staging
      stagingCursor = PageIndex(0)
      return .again
    }
    guard counts.file == 0 else {
      phase = .file
      file.restart()
      return .again
    }
    guard memory.healPages() else { return .retryAfter(nanoseconds: RetryDelay.event) }
    guard counts.unreadable == 0 else { throw .unreadable(pages: counts.unreadable) }
    // A fault's own read of a page that came back meanwhile must end before the file is emptied under it.
    guard counts.pinnedRuns == 0 else { return .retryAfter(nanoseconds: RetryDelay.slot) }
    do throws(PortFailure) {
      try memory.endMonitoring()
      memory.ports.destroyStaging()
    } catch { throw .port(error) }
    if !cleansUpGradually { emptyFile() }
    return .finished
  }

  /// Everything is back, whatever the disk says: where it refuses (read-only by now, say), gradual cleanup tries again.
  private func emptyFile() {
    do throws(PortFailure) {
      try memory.ports.file.truncate()
      memory.ledger.fileEmptied()
    } catch {}
  }
}
