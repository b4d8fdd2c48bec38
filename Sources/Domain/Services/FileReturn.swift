/// Brings pages back from the swap file, in file order: reads ahead, and installs what was found right. Who has read installs,
/// while nothing stands in the way; so the disk and all processors are busy, and nobody waits for anybody.
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
  /// What was read, and is not installed yet.
  private var left: Completion?
  /// Reads whose pages may not be in the guest yet.
  private(set) var readsUnderWay = 0

  init(memory: TenantMemory<Ports>) { self.memory = memory }

  /// From the file's beginning again.
  mutating func restart() { cursor = SwapSlot(0) }

  /// Gives up what was read ahead.
  mutating func abort() {
    while let late = left ?? memory.ports.readAhead.nextCompletion() {
      (left, pages) = (nil, pages + late.progress.pages)
      end(late)
    }
  }

  /// Starts a read, or settles one.
  ///
  /// - Parameters:
  ///   - limit: how many pages are installed in one hold of the gate.
  ///   - readersInstall: whether who reads installs; else who calls does.
  ///   - mayStart: whether there is room for another read's pages; else some are under way.
  mutating func step(
    by process: Ports.Process, limit: Int, readersInstall: Bool, mayStart: Bool
  ) -> Outcome {
    let buffer = mayStart ? memory.ports.readAhead.takeBuffer() : nil
    if let buffer {
      if let run = memory.ledger.pinNextFileRun(from: cursor, limit: buffer.capacityPages) {
        cursor = run.slots.upperBound
        readsUnderWay += 1
        let memory = memory
        memory.ports.readAhead.start(run, into: buffer) { read in
          guard readersInstall else { return read }
          return ReadInstall(memory, read).installed(by: process, limit: limit)
        }
        return .again
      }
      memory.ports.readAhead.giveBack(buffer)
    }
    guard var read = left ?? memory.ports.readAhead.nextCompletion() else {
      return buffer == nil ? .noBuffer : .nothingLeft
    }
    // The first time it is settled for what its reader has done.
    if left != nil || read.progress.next == .again {
      read = ReadInstall(memory, read).installed(by: process, limit: limit)
    }
    if case .isWrong(let page, let slot) = read.progress.next {
      read = ReadInstall(memory, read).reread(page, slot, by: process)
    }
    pages += read.progress.pages
    read.progress.pages = 0
    left = read
    if case .stopped(let stop) = read.progress.next { return .stopped(stop) }
    if read.progress.next == .allSeen {
      left = nil
      end(read)
    }
    return .again
  }

  private mutating func end(_ read: Completion) {
    readsUnderWay -= 1
    ReadInstall(memory, read).distrustRest()
    memory.ledger.unpin(read.run.slots)
    memory.ports.readAhead.giveBack(read.buffer)
  }
}

/// How far what was read has come on its way into the guest.
package struct ReadProgress: Sendable {
  enum Next: Equatable, Sendable {
    case again
    case allSeen
    case stopped(InstallResult.Stop)
    /// A page that is to be read again by itself.
    case isWrong(PageIndex, SwapSlot)
  }

  /// The place in the read of the first page that is not installed yet.
  var index = 0
  /// How many were installed, since somebody has counted them.
  var pages = 0
  var next = Next.again
}

/// Installs what one read has brought.
private struct ReadInstall<Ports: TenantPorts> {
  private let memory: TenantMemory<Ports>
  private var read: ReadCompletion<Ports.File.Buffer>

  init(_ memory: TenantMemory<Ports>, _ read: ReadCompletion<Ports.File.Buffer>) {
    (self.memory, self.read) = (memory, read)
  }

  /// Slots that were read wrong are not trusted again, even where nobody has looked at what was read.
  func distrustRest() {
    var index = read.progress.index
    while let piece = read.run.nextPiece(from: index) {
      distrustIfWrong(piece)
      index = read.run.index(of: piece.upperBound)
    }
  }

  private func distrustIfWrong(_ slots: SlotRange) {
    for slot in slots {
      let page = memory.ledger.owner(of: slot)
      if !isRight(slot, of: page) { memory.ledger.distrust(slot, of: page) }
    }
  }

  private func isRight(_ slot: SwapSlot, of page: PageIndex) -> Bool {
    read.failure == nil
      && read.buffer.checksum(at: read.run.index(of: slot)) == memory.ledger.checksum(of: page)
  }

  /// As far as nothing stands in the way.
  func installed(by process: Ports.Process, limit: Int) -> ReadCompletion<Ports.File.Buffer> {
    var rest = self
    repeat {
      let next = memory.ports.gate.shared { rest.install(by: process, limit: limit) }
      rest.read.progress.next = next
    } while rest.read.progress.next == .again
    return rest.read
  }

  /// Pages are looked up again under the gate: they may have come back, or been removed, while the disk was at work.
  ///
  /// What has come back by faults meanwhile is passed over: else faults that follow each other are never caught up with.
  /// (Should one of these pages be in the file again, it is found in the next round.)
  private mutating func install(by process: Ports.Process, limit: Int) -> ReadProgress.Next {
    let end = read.progress.pages + limit
    while let piece = read.run.nextPiece(from: read.progress.index) {
      if read.progress.pages >= end { return .again }
      guard let (first, found) = memory.ledger.nextInFile(piece) else {
        distrustIfWrong(piece)
        read.progress.index = read.run.index(of: piece.upperBound)
        continue
      }
      distrustIfWrong(piece.lowerBound..<first)
      read.progress.index = read.run.index(of: first)
      let run = installable(found, from: first, limit: end - read.progress.pages)
      if run.isEmpty { return .isWrong(found.lowerBound, first) }
      let source = PageSource.buffer(read.buffer, index: read.progress.index)
      if let stop = install(run, from: source, by: process) { return .stopped(stop) }
    }
    return .allSeen
  }

  /// As many as were read right, and lie in one region.
  private func installable(_ found: PageRange, from slot: SwapSlot, limit: Int) -> PageRange {
    let first = found.lowerBound
    let end = min(
      found.upperBound, first + limit, memory.map.regions[memory.map.regionIndex(of: first)].pages.upperBound)
    let right = (first..<end).prefix { isRight(slot + first.distance(to: $0), of: $0) }
    return first..<(first + right.count)
  }

  /// Reads one slot again by itself; a page that can't be read is recorded as such, and passed over.
  func reread(_ page: PageIndex, _ slot: SwapSlot, by process: Ports.Process) -> ReadCompletion<Ports.File.Buffer> {
    let buffer = memory.ports.readAhead.spareBuffer
    let outcome = memory.readVerified(slot, of: page, into: buffer)
    var rest = self
    memory.ports.gate.shared {
      rest.read.progress.next = .again
      memory.ledger.distrust(slot, of: page)  // reading it together with others went wrong
      let record = memory.ledger.record(of: page)
      guard record.slot == slot, record.state == .file || record.state == .unreadable else {
        rest.read.progress.index += 1
        return
      }
      guard outcome != .wrong else {
        if memory.ledger.pageUnreadable(page, slot: slot) {
          for process in memory.ports.processes { _ = process.poison(page) }
        }
        rest.read.progress.index += 1
        return
      }
      let stop = rest.install(page..<(page + 1), from: .buffer(buffer, index: 0), by: process)
      if let stop { rest.read.progress.next = .stopped(stop) }
    }
    return rest.read
  }

  /// To be called under the shared gate.
  private mutating func install(
    _ run: PageRange, from source: PageSource<Ports.File.Buffer>, by process: Ports.Process
  ) -> InstallResult.Stop? {
    let outcome = PageReturn(memory: memory).install(run, from: source, by: process)
    read.progress.index += outcome.pages
    read.progress.pages += outcome.pages
    return outcome.stop
  }
}
