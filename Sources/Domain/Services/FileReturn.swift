/// Brings pages back from the swap file, in file order: reads ahead, and installs what was found right.
struct FileReturn<Ports: TenantPorts> {
  private typealias Completion = ReadCompletion<Ports.File.Buffer>

  /// What a step came to.
  enum Outcome {
    case again
    /// Something stands in the way of installing.
    case stopped(InstallResult.Stop)
    /// Others hold the whole budget for buffers: they give some back soon.
    case noBuffer
    case nothingLeft
  }

  private(set) var pages = 0
  private let memory: TenantMemory<Ports>
  private var cursor = SwapSlot(0)
  /// What was read and is being installed, and the place in it of the first page that is not yet.
  private var completion: Completion?
  private var index = 0

  init(memory: TenantMemory<Ports>) { self.memory = memory }

  /// From the file's beginning again.
  mutating func restart() { cursor = SwapSlot(0) }

  /// Gives up what was read ahead.
  mutating func abort() {
    endCompletion()
    while let late = memory.ports.readAhead.nextCompletion() {
      (completion, index) = (late, 0)
      endCompletion()
    }
  }

  /// - Parameter limit: how many pages are installed in one hold of the gate.
  mutating func step(by process: Ports.Process, limit: Int) -> Outcome {
    let wantsBuffer = !readAhead()
    if completion == nil { (completion, index) = (memory.ports.readAhead.nextCompletion(), 0) }
    guard let completion else { return wantsBuffer ? .noBuffer : .nothingLeft }
    switch install(completion, by: process, limit: limit) {
    case .again: return .again
    case .stopped(let stop): return .stopped(stop)
    case .isWrong(let page, let slot): return reread(page, slot, by: process)
    case .allSeen:
      endCompletion()
      return .again
    }
  }

  // MARK: Reading

  /// - Returns: false when there is more to read, and no buffer for it.
  private mutating func readAhead() -> Bool {
    while let buffer = memory.ports.readAhead.takeBuffer() {
      guard let run = memory.ledger.pinNextFileRun(from: cursor, limit: buffer.capacityPages) else {
        memory.ports.readAhead.giveBack(buffer)
        return true
      }
      memory.ports.readAhead.start(run, into: buffer)
      cursor = run.slots.upperBound
    }
    return false
  }

  private func isRight(_ completion: Completion, _ slot: SwapSlot, of page: PageIndex) -> Bool {
    completion.failure == nil
      && completion.buffer.checksum(at: completion.run.index(of: slot)) == memory.ledger.checksum(of: page)
  }

  /// Slots that were read wrong are not trusted again, even where nobody has looked at what was read.
  private func distrustIfWrong(_ completion: Completion, _ slots: SlotRange) {
    for slot in slots {
      let page = memory.ledger.owner(of: slot)
      if !isRight(completion, slot, of: page) { memory.ledger.distrust(slot, of: page) }
    }
  }

  private mutating func endCompletion() {
    guard let completion else { return }
    while let piece = completion.run.nextPiece(from: index) {
      distrustIfWrong(completion, piece)
      index = completion.run.index(of: piece.upperBound)
    }
    memory.ledger.unpin(completion.run.slots)
    memory.ports.readAhead.giveBack(completion.buffer)
    self.completion = nil
  }

  // MARK: Installing

  private enum Next {
    case again
    case allSeen
    case stopped(InstallResult.Stop)
    case isWrong(PageIndex, SwapSlot)
  }

  /// Pages are looked up again under the gate: they may have come back, or been removed, while the disk was at work.
  ///
  /// What has come back by faults meanwhile is passed over: else faults that follow each other are never caught up with.
  /// (Should one of these pages be in the file again, it is found in the next round.)
  private mutating func install(_ completion: Completion, by process: Ports.Process, limit: Int) -> Next {
    memory.ports.gate.shared {
      let end = pages + limit
      while let piece = completion.run.nextPiece(from: index) {
        if pages >= end { return .again }
        guard let (first, found) = memory.ledger.nextInFile(piece) else {
          distrustIfWrong(completion, piece)
          index = completion.run.index(of: piece.upperBound)
          continue
        }
        distrustIfWrong(completion, piece.lowerBound..<first)
        index = completion.run.index(of: first)
        let run = installable(found, from: first, completion, limit: end - pages)
        if run.isEmpty { return .isWrong(found.lowerBound, first) }
        let (returned, stop) = install(run, from: .buffer(completion.buffer, index: index), by: process)
        index += returned
        if let stop { return .stopped(stop) }
      }
      return .allSeen
    }
  }

  /// As many as were read right, and lie in one region.
  private func installable(_ found: PageRange, from slot: SwapSlot, _ completion: Completion, limit: Int) -> PageRange {
    let first = found.lowerBound
    let end = min(
      found.upperBound, first + limit, memory.map.regions[memory.map.regionIndex(of: first)].pages.upperBound)
    let right = (first..<end).prefix { isRight(completion, slot + first.distance(to: $0), of: $0) }
    return first..<(first + right.count)
  }

  /// Reads one slot again by itself; a page that can't be read is recorded as such, and passed over.
  private mutating func reread(_ page: PageIndex, _ slot: SwapSlot, by process: Ports.Process) -> Outcome {
    let buffer = memory.ports.readAhead.spareBuffer
    let read = memory.readVerified(slot, of: page, into: buffer)
    return memory.ports.gate.shared {
      memory.ledger.distrust(slot, of: page)  // reading it together with others went wrong
      let record = memory.ledger.record(of: page)
      guard record.slot == slot, record.state == .file || record.state == .unreadable else {
        index += 1
        return .again
      }
      guard read != .wrong else {
        if memory.ledger.pageUnreadable(page, slot: slot) {
          for process in memory.ports.processes { _ = process.poison(page) }
        }
        index += 1
        return .again
      }
      let (returned, stop) = install(page..<(page + 1), from: .buffer(buffer, index: 0), by: process)
      index += returned
      return stop.map { .stopped($0) } ?? .again
    }
  }

  /// To be called under the shared gate.
  private mutating func install(
    _ run: PageRange, from source: PageSource<Ports.File.Buffer>, by process: Ports.Process
  ) -> (returned: Int, stop: InstallResult.Stop?) {
    let outcome = PageReturn(memory: memory).install(run, from: source, by: process)
    pages += outcome.pages
    return (outcome.pages, outcome.stop)
  }
}
