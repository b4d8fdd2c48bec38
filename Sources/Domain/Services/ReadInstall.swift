/// What one read has brought, on its way into the guest.
struct ReadInstall<Ports: TenantPorts>: Sendable {
  enum Next: Sendable {
    case again
    case allSeen
    case stopped(InstallResult.Stop)
    case isWrong(PageIndex, SwapSlot)
  }

  let completion: ReadCompletion<Ports.File.Buffer>
  private let memory: TenantMemory<Ports>
  /// The place in the read of the first page that is not installed yet.
  private var index = 0
  private var count = 0

  init(_ memory: TenantMemory<Ports>, _ completion: ReadCompletion<Ports.File.Buffer>) {
    (self.memory, self.completion) = (memory, completion)
  }

  /// How many pages have been installed since this was last asked.
  mutating func takeCount() -> Int {
    defer { count = 0 }
    return count
  }

  /// Slots that were read wrong are not trusted again, even where nobody has looked at what was read.
  mutating func distrustRest() {
    while let piece = completion.run.nextPiece(from: index) {
      distrustIfWrong(piece)
      index = completion.run.index(of: piece.upperBound)
    }
  }

  private func distrustIfWrong(_ slots: SlotRange) {
    for slot in slots {
      let page = memory.ledger.owner(of: slot)
      if !isRight(slot, of: page) { memory.ledger.distrust(slot, of: page) }
    }
  }

  private func isRight(_ slot: SwapSlot, of page: PageIndex) -> Bool {
    completion.failure == nil
      && completion.buffer.checksum(at: completion.run.index(of: slot)) == memory.ledger.checksum(of: page)
  }

  /// Pages are looked up again under the gate: they may have come back, or been removed, while the disk was at work.
  ///
  /// What has come back by faults meanwhile is passed over: else faults that follow each other are never caught up with.
  /// (Should one of these pages be in the file again, it is found in the next round.)
  ///
  /// To be called under the shared gate.
  mutating func install(by process: Ports.Process, limit: Int) -> Next {
    while let piece = completion.run.nextPiece(from: index) {
      if count >= limit { return .again }
      guard let (first, found) = memory.ledger.nextInFile(piece) else {
        distrustIfWrong(piece)
        index = completion.run.index(of: piece.upperBound)
        continue
      }
      distrustIfWrong(piece.lowerBound..<first)
      index = completion.run.index(of: first)
      let run = installable(found, from: first, limit: limit - count)
      if run.isEmpty { return .isWrong(found.lowerBound, first) }
      if let stop = install(run, from: .buffer(completion.buffer, index: index), by: process) { return .stopped(stop) }
    }
    return .allSeen
  }

  /// As many as were read right, and lie in one region.
  private func installable(_ found: PageRange, from slot: SwapSlot, limit: Int) -> PageRange {
    let first = found.lowerBound
    let end = min(
      found.upperBound, first + min(limit, Self.pagesPerInstall),
      memory.map.regions[memory.map.regionIndex(of: first)].pages.upperBound)
    let right = (first..<end).prefix { isRight(slot + first.distance(to: $0), of: $0) }
    return first..<(first + right.count)
  }

  /// What is checked stays in the processor's cache until it is copied.
  private static var pagesPerInstall: Int { 64 }

  /// Reads one slot again by itself; a page that can't be read is recorded as such, and passed over.
  mutating func reread(_ page: PageIndex, _ slot: SwapSlot, by process: Ports.Process) -> InstallResult.Stop? {
    let buffer = memory.ports.readAhead.spareBuffer
    let outcome = memory.readVerified(slot, of: page, into: buffer)
    return memory.ports.gate.shared {
      memory.ledger.distrust(slot, of: page)  // reading it together with others went wrong
      let record = memory.ledger.record(of: page)
      guard record.slot == slot, record.state == .file || record.state == .unreadable else {
        index += 1
        return nil
      }
      guard outcome != .wrong else {
        if memory.ledger.pageUnreadable(page, slot: slot) {
          for process in memory.ports.processes { _ = process.poison(page) }
        }
        index += 1
        return nil
      }
      return install(page..<(page + 1), from: .buffer(buffer, index: 0), by: process)
    }
  }

  /// To be called under the shared gate.
  private mutating func install(
    _ run: PageRange, from source: PageSource<Ports.File.Buffer>, by process: Ports.Process
  ) -> InstallResult.Stop? {
    let outcome = PageReturn(memory: memory).install(run, from: source, by: process)
    index += outcome.pages
    count += outcome.pages
    return outcome.stop
  }
}
