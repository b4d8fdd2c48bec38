/// Brings pages back from the swap file, in file order: reads ahead, and installs what was found right, by two pairs of hands
/// where there are two reads to be installed.
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
  /// What was read and is being installed.
  private var reads: [ReadInstall<Ports>] = []

  init(memory: TenantMemory<Ports>) { self.memory = memory }

  /// From the file's beginning again.
  mutating func restart() { cursor = SwapSlot(0) }

  /// Gives up what was read ahead.
  mutating func abort() {
    while let late = memory.ports.readAhead.nextCompletion() { reads.append(ReadInstall(memory, late)) }
    while !reads.isEmpty { endRead(0) }
  }

  /// - Parameters:
  ///   - limit: how many pages of a read are installed in one hold of the gate.
  ///   - hands: how many reads are installed at the same time, one or two.
  mutating func step(by process: Ports.Process, limit: Int, hands: Int) -> Outcome {
    let wantsBuffer = !readAhead()
    while reads.count < hands, let completion = memory.ports.readAhead.nextCompletion() {
      reads.append(ReadInstall(memory, completion))
    }
    guard !reads.isEmpty else { return wantsBuffer ? .noBuffer : .nothingLeft }
    var (first, second) = (reads[0], reads.count > 1 && hands > 1 ? reads[1] : nil)
    if let other = second {
      let (mine, others) = memory.ports.helper.both {
        first.installed(by: process, limit: limit)
      } _: {
        other.installed(by: process, limit: limit)
      }
      (first, second) = (mine, others)
    } else {
      first = first.installed(by: process, limit: limit)
    }
    reads[0] = first
    if let second { reads[1] = second }
    // From behind: what is at its end leaves.
    var stop: InstallResult.Stop?
    for number in (0..<(second == nil ? 1 : 2)).reversed() { stop = settle(number, by: process) ?? stop }
    return stop.map { .stopped($0) } ?? .again
  }

  /// - Returns: what stands in the way of installing the rest.
  private mutating func settle(_ number: Int, by process: Ports.Process) -> InstallResult.Stop? {
    pages += reads[number].takeCount()
    switch reads[number].next {
    case .again: return nil
    case .stopped(let stop): return stop
    case .isWrong(let page, let slot):
      let stop = reads[number].reread(page, slot, by: process)
      pages += reads[number].takeCount()
      return stop
    case .allSeen:
      endRead(number)
      return nil
    }
  }

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

  private mutating func endRead(_ number: Int) {
    var read = reads.remove(at: number)
    read.distrustRest()
    memory.ledger.unpin(read.completion.run.slots)
    memory.ports.readAhead.giveBack(read.completion.buffer)
  }
}

/// What one read has brought, on its way into the guest.
struct ReadInstall<Ports: TenantPorts>: Sendable {
  enum Next: Sendable {
    case again
    case allSeen
    case stopped(InstallResult.Stop)
    case isWrong(PageIndex, SwapSlot)
  }

  let completion: ReadCompletion<Ports.File.Buffer>
  /// What comes after the last step.
  private(set) var next = Next.again
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
  func installed(by process: Ports.Process, limit: Int) -> Self {
    var read = self
    read.next = memory.ports.gate.shared { read.install(by: process, limit: limit) }
    return read
  }

  private mutating func install(by process: Ports.Process, limit: Int) -> Next {
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
      found.upperBound, first + limit, memory.map.regions[memory.map.regionIndex(of: first)].pages.upperBound)
    let right = (first..<end).prefix { isRight(slot + first.distance(to: $0), of: $0) }
    return first..<(first + right.count)
  }

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
