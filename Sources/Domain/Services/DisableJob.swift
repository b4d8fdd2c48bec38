/// `disable`: brings everything back, first from staging, then from the swap file in file order, reading ahead; then stops
/// monitoring, and empties the file. Faults are served all the while.
///
/// Memory: installed pages are charged to the tenant's control group, and what comes from the file is more than the machine
/// had in use. (What comes from staging is given back chunk by chunk, so that one chunk more is in use for an instant.)
/// Where a chunk has no room, the job waits, and holds nothing that others may need.
package struct DisableJob<Ports: TenantPorts>: SteppedJob {
  private typealias Completion = ReadCompletion<Ports.File.Buffer>

  private enum Phase {
    case staging
    case file
    case closing
  }

  package private(set) var pages = 0
  package private(set) var shortage: MemoryShortage?
  private let memory: TenantMemory<Ports>
  private let cleansUpGradually: Bool
  private var phase = Phase.staging
  private var stagingCursor = PageIndex(0)
  private var fileCursor = SwapSlot(0)
  private var sizer: ChunkSizer
  /// What was read and is being installed: the index of the first page that is not installed yet.
  private var completion: Completion?
  private var installIndex = 0

  /// - Parameter cleansUpGradually: the swap file's content is left to `FileCleanup`.
  package init(memory: TenantMemory<Ports>, cleansUpGradually: Bool = false) {
    self.memory = memory
    self.cleansUpGradually = cleansUpGradually
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

  package mutating func abort() {
    if let completion { end(completion, unseenFrom: installIndex) }
    completion = nil
    while let late = memory.ports.readAhead.nextCompletion() { end(late, unseenFrom: 0) }
  }

  // MARK: Memory

  private mutating func hasRoom(for pages: Int, fromFile: Bool) -> Bool {
    shortage = pages == 0 ? nil : memory.ports.headroom.shortage(of: pages, for: .returning(fromFile: fromFile))
    return shortage == nil
  }

  /// What was read ahead is given up, and read again later: its buffers are of all tenants' one budget.
  private mutating func waitForRoom() throws(JobFailure) -> JobStep {
    abort()
    fileCursor = SwapSlot(0)
    do throws(PortFailure) {
      _ = try memory.releaseStaging(limit: memory.map.geometry.hugePagePages)
    } catch { throw .port(error) }
    return .retryAfter(nanoseconds: RetryDelay.headroom)
  }

  // MARK: From staging

  private mutating func installFromStaging() throws(JobFailure) -> JobStep {
    guard let process = memory.ports.processes.first(where: { $0.isAlive }) else { throw .tenantGone }
    let limit = sizer.next(faultCount: memory.ledger.counts.faults.total)
    guard hasRoom(for: min(limit, memory.ledger.counts.staged), fromFile: false) else { return try waitForRoom() }
    let stop: InstallResult.Stop? = memory.ports.gate.shared {
      guard let run = nextStagedRun(limit: limit) else {
        phase = .file
        return nil
      }
      return install(run, from: .staging, by: process)
    }
    do throws(PortFailure) {
      _ = try memory.releaseStaging(limit: memory.map.geometry.hugePagePages)
    } catch { throw .port(error) }
    return try next(after: stop)
  }

  /// The next staged pages, cut at their region's end.
  private mutating func nextStagedRun(limit: Int) -> PageRange? {
    let end = PageIndex(memory.map.pageCount)
    guard let run = memory.ledger.nextStaged(from: stagingCursor, before: end, limit: limit) else { return nil }
    stagingCursor = run.lowerBound
    let region = memory.map.regions[memory.map.regionIndex(of: run.lowerBound)]
    return run.lowerBound..<min(run.upperBound, region.pages.upperBound)
  }

  // MARK: From the file

  private mutating func installFromFile() throws(JobFailure) -> JobStep {
    guard let process = memory.ports.processes.first(where: { $0.isAlive }) else { throw .tenantGone }
    guard hasRoom(for: min(memory.map.geometry.hugePagePages, memory.ledger.counts.file), fromFile: true) else {
      return try waitForRoom()
    }
    let wantsBuffer = !readAhead()
    if completion == nil {
      installIndex = 0
      completion = memory.ports.readAhead.nextCompletion()
    }
    guard let completion else {
      // Another tenant's swap-in holds the whole budget: it gives some back soon.
      if wantsBuffer { return .retryAfter(nanoseconds: RetryDelay.slot) }
      phase = .closing
      return .again
    }
    // What has come back by faults meanwhile is passed over, each page looked at once: else faults that follow each other are
    // never caught up with. (Should one of these pages be in the file again, it is found in the next round.)
    while installIndex < completion.slots.count, !isInFile(completion, at: installIndex) {
      distrustIfWrong(completion, at: installIndex)
      installIndex += 1
    }
    guard installIndex < completion.slots.count else {
      end(completion, unseenFrom: completion.slots.count)
      self.completion = nil
      return .again
    }
    let slot = completion.slots.lowerBound + installIndex
    let page = memory.ledger.owner(of: slot)
    guard isRight(completion, at: installIndex) else { return try reread(page, slot, by: process) }
    let limit = sizer.next(faultCount: memory.ledger.counts.faults.total)
    let run = consecutivePages(completion, from: installIndex, limit: limit)
    let stop: InstallResult.Stop? = memory.ports.gate.shared {
      // Look up again: pages may have come back, or been removed, while the disk was at work.
      let still = run.prefix { isInFile($0, slot: slot + run.lowerBound.distance(to: $0)) }
      guard !still.isEmpty else {
        installIndex += 1
        return nil
      }
      let (before, source) = (pages, PageSource.buffer(completion.buffer, index: installIndex))
      let stop = install(run.lowerBound..<(run.lowerBound + still.count), from: source, by: process)
      installIndex += pages - before
      return stop
    }
    return try next(after: stop)
  }

  /// - Returns: false when there is more to read, and no buffer for it.
  private mutating func readAhead() -> Bool {
    while let buffer = memory.ports.readAhead.takeBuffer() {
      guard let slots = memory.ledger.pinNextFileRun(from: fileCursor, limit: buffer.capacityPages) else {
        memory.ports.readAhead.giveBack(buffer)
        return true
      }
      memory.ports.readAhead.start(slots, into: buffer)
      fileCursor = slots.upperBound
    }
    return false
  }

  private func isRight(_ completion: Completion, at index: Int) -> Bool {
    guard completion.failure == nil else { return false }
    let page = memory.ledger.owner(of: completion.slots.lowerBound + index)
    return completion.buffer.checksum(at: index) == memory.ledger.checksum(of: page)
  }

  /// Reads one slot again by itself; a page that can't be read is recorded as such, and passed over.
  private mutating func reread(_ page: PageIndex, _ slot: SwapSlot, by process: Ports.Process) throws(JobFailure)
    -> JobStep
  {
    let buffer = memory.ports.readAhead.spareBuffer
    let read = memory.readVerified(slot, of: page, into: buffer)
    let stop: InstallResult.Stop? = memory.ports.gate.shared {
      memory.ledger.distrust(slot, of: page)  // reading it together with others went wrong
      guard isInFile(page, slot: slot) else {
        installIndex += 1
        return nil
      }
      guard read != .wrong else {
        if memory.ledger.pageUnreadable(page, slot: slot) {
          for process in memory.ports.processes { _ = process.poison(page) }
        }
        installIndex += 1
        return nil
      }
      let before = pages
      let stop = install(page..<(page + 1), from: .buffer(buffer, index: 0), by: process)
      installIndex += pages - before
      return stop
    }
    return try next(after: stop)
  }

  /// Pages that follow each other in memory as their slots do in the file, all right, and in one region.
  private func consecutivePages(_ completion: Completion, from start: Int, limit: Int) -> PageRange {
    let first = memory.ledger.owner(of: completion.slots.lowerBound + start)
    let regionEnd = memory.map.regions[memory.map.regionIndex(of: first)].pages.upperBound
    var count = 1
    while count < limit, start + count < completion.slots.count, first + count < regionEnd,
      memory.ledger.owner(of: completion.slots.lowerBound + start + count) == first + count,
      isRight(completion, at: start + count)
    { count += 1 }
    return first..<(first + count)
  }

  private func isInFile(_ completion: Completion, at index: Int) -> Bool {
    let slot = completion.slots.lowerBound + index
    return isInFile(memory.ledger.owner(of: slot), slot: slot)
  }

  private func isInFile(_ page: PageIndex, slot: SwapSlot) -> Bool {
    let record = memory.ledger.record(of: page)
    return record.slot == slot && (record.state == .file || record.state == .unreadable)
  }

  /// Slots that were read wrong are not trusted again, even where nobody has looked at what was read.
  private func end(_ completion: Completion, unseenFrom first: Int) {
    for index in first..<completion.slots.count { distrustIfWrong(completion, at: index) }
    memory.ledger.unpin(completion.slots)
    memory.ports.readAhead.giveBack(completion.buffer)
  }

  private func distrustIfWrong(_ completion: Completion, at index: Int) {
    guard !isRight(completion, at: index) else { return }
    let slot = completion.slots.lowerBound + index
    memory.ledger.distrust(slot, of: memory.ledger.owner(of: slot))
  }

  // MARK: Both

  /// Installs and records; to be called under the shared gate.
  private mutating func install(
    _ run: PageRange, from source: PageSource<Ports.File.Buffer>, by process: Ports.Process
  ) -> InstallResult.Stop? {
    let result = process.install(run, from: source)
    let isUnmapped = result.stop == .failed(errorNumber: ErrorNumber.noEntry)
    if isUnmapped, result.installed == 0 { return putBack(run, from: source) }
    var returned = result.installed
    if result.stop == .alreadyPresent {
      // The guest's own content wins. Who waits for it elsewhere is woken by the fault that it has sent.
      let page = run.lowerBound + result.installed
      process.wake(page..<(page + 1))
      returned += 1
    }
    if returned > 0 { memory.ledger.pagesReturned(run.lowerBound..<(run.lowerBound + returned)) }
    pages += returned
    return isUnmapped ? nil : result.stop
  }

  /// The process does not map the first page any more. Another may; pages that none does go back into the memfd itself.
  private mutating func putBack(_ run: PageRange, from source: PageSource<Ports.File.Buffer>) -> InstallResult.Stop? {
    let processes = memory.ports.processes.filter(\.isAlive)
    for other in processes {
      let result = other.install(run, from: source)
      let isUnmapped = result.stop == .failed(errorNumber: ErrorNumber.noEntry)
      if isUnmapped, result.installed == 0 { continue }
      if result.installed > 0 { memory.ledger.pagesReturned(run.lowerBound..<(run.lowerBound + result.installed)) }
      pages += result.installed
      if isUnmapped { return nil }
      return result.stop == .alreadyPresent ? .eventPending : result.stop  // the next step meets it again
    }
    // Only what nobody can touch: a page that comes back by a fault meanwhile may have been written by then. (Where all say
    // that they map it, and none does, the client has unmapped it without a word.)
    let unmapped = run.prefix { page in !processes.contains { $0.addresses.address(of: page) != nil } }
    let rest = unmapped.isEmpty ? run : run.lowerBound..<(run.lowerBound + unmapped.count)
    do throws(PortFailure) { try memory.ports.guest.restore(rest, from: source) } catch {
      return .failed(errorNumber: error.errorNumber)
    }
    memory.ledger.pagesReturned(rest)
    pages += rest.count
    return nil
  }

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
      fileCursor = SwapSlot(0)
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
