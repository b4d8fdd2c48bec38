/// Brings pages back from the swap file, in file order: reads ahead, and installs what was found right, by two pairs of hands
/// which do not wait for each other within a step.
struct FileReturn<Ports: TenantPorts> {
  /// What a step came to.
  enum Outcome {
    case again
    /// Something stands in the way of installing.
    case stopped(InstallResult.Stop)
    /// Others hold the whole budget for buffers: they give some back soon.
    case noBuffer
    case nothingLeft
  }

  /// How much a step does at most.
  struct Extent: Sendable {
    /// Pages that are installed in one hold of the gate.
    let pagesPerHold: Int
    /// One or two.
    let hands: Int
    /// That each pair of hands comes to the end of.
    let readsPerHand: Int
    /// Where the disk is slow, fewer.
    static var nanoseconds: UInt64 { 20_000_000 }
  }

  private(set) var pages = 0
  private let memory: TenantMemory<Ports>
  private var hands: [FileHand<Ports>]

  init(memory: TenantMemory<Ports>) {
    self.memory = memory
    hands = [FileHand(memory), FileHand(memory)]
  }

  /// From the file's beginning again.
  func restart() { memory.ledger.restartFileRuns() }

  /// Gives up what was read ahead.
  mutating func abort() {
    for number in hands.indices { hands[number].giveUp() }
    memory.ports.readAhead.rest()
  }

  mutating func step(by process: Ports.Process, _ extent: Extent) -> Outcome {
    let deadline = memory.ports.clock.nowNanoseconds + Extent.nanoseconds
    if extent.hands > 1 {
      let (first, second) = (hands[0], hands[1])
      let (mine, others) = memory.ports.helper.both {
        first.worked(by: process, extent, until: deadline)
      } _: {
        second.worked(by: process, extent, until: deadline)
      }
      hands = [mine, others]
      return settle(hands.indices, by: process)
    } else {
      // Nothing that was begun is left lying.
      let number = hands[1].isHolding ? 1 : 0
      hands[number] = hands[number].worked(by: process, extent, until: deadline)
      return settle(number..<(number + 1), by: process)
    }
  }

  /// - Parameter worked: whose work it is about.
  private mutating func settle(_ worked: Range<Int>, by process: Ports.Process) -> Outcome {
    var outcome = Outcome.nothingLeft
    for number in worked {
      let stop = hands[number].rereadIfWrong(by: process)
      pages += hands[number].takeCount()
      switch (stop, hands[number].end, outcome) {
      case (let stop?, _, _): outcome = .stopped(stop)
      case (_, _, .stopped): break
      case (_, .again, _), (_, .isWrong, _): outcome = .again
      case (_, .noBuffer, .nothingLeft): outcome = .noBuffer
      case (_, .stopped(let stop), _): outcome = .stopped(stop)
      case (_, .noBuffer, _), (_, .nothingLeft, _): break
      }
    }
    switch outcome {
    case .noBuffer, .nothingLeft: memory.ports.readAhead.rest()
    case .again, .stopped: break
    }
    return outcome
  }
}

/// One pair of hands: has slots read ahead, and installs what one read after the other has brought.
struct FileHand<Ports: TenantPorts>: Sendable {
  enum End: Sendable {
    case again
    case stopped(InstallResult.Stop)
    case isWrong(PageIndex, SwapSlot)
    /// There is more to read, and no buffer for it.
    case noBuffer
    case nothingLeft
  }

  /// What the last piece of work came to.
  private(set) var end = End.nothingLeft
  private let memory: TenantMemory<Ports>
  private var read: ReadInstall<Ports>?
  private var count = 0

  init(_ memory: TenantMemory<Ports>) { self.memory = memory }

  /// Whether a read has brought what is not installed yet.
  var isHolding: Bool { read != nil }

  /// How many pages have been installed since this was last asked.
  mutating func takeCount() -> Int {
    defer { count = 0 }
    return count
  }

  /// Works until something stands in the way, faults come, or it is enough for a step.
  func worked(by process: Ports.Process, _ extent: FileReturn<Ports>.Extent, until deadline: UInt64) -> Self {
    var hand = self
    let faults = memory.ledger.counts.faults.total
    var reads = 0
    repeat {
      hand.end = hand.workOn(by: process, limit: extent.pagesPerHold)
      guard case .again = hand.end else { break }
      if !hand.isHolding { reads += 1 }
    } while reads < extent.readsPerHand && memory.ledger.counts.faults.total == faults
      && memory.ports.clock.nowNanoseconds < deadline
    return hand
  }

  /// One hold of the gate.
  private mutating func workOn(by process: Ports.Process, limit: Int) -> End {
    let wantsBuffer = !readAhead()
    guard var current = read ?? memory.ports.readAhead.nextCompletion().map({ ReadInstall(memory, $0) }) else {
      return wantsBuffer ? .noBuffer : .nothingLeft
    }
    let next = memory.ports.gate.shared { current.install(by: process, limit: limit) }
    count += current.takeCount()
    read = current
    switch next {
    case .again: return .again
    case .stopped(let stop): return .stopped(stop)
    case .isWrong(let page, let slot): return .isWrong(page, slot)
    case .allSeen:
      endRead()
      return .again
    }
  }

  /// - Returns: what stands in the way of installing what was read again.
  mutating func rereadIfWrong(by process: Ports.Process) -> InstallResult.Stop? {
    guard case .isWrong(let page, let slot) = end else { return nil }
    let stop = read?.reread(page, slot, by: process)
    count += read?.takeCount() ?? 0
    return stop ?? nil
  }

  /// Gives up what was read, and what is being read.
  mutating func giveUp() {
    endRead()
    while let late = memory.ports.readAhead.nextCompletion() {
      read = ReadInstall(memory, late)
      endRead()
    }
  }

  /// - Returns: false when there is more to read, and no buffer for it.
  private func readAhead() -> Bool {
    while let buffer = memory.ports.readAhead.takeBuffer() {
      guard let run = memory.ledger.pinNextFileRun(limit: buffer.capacityPages) else {
        memory.ports.readAhead.giveBack(buffer)
        return true
      }
      memory.ports.readAhead.start(run, into: buffer)
    }
    return false
  }

  private mutating func endRead() {
    read?.distrustRest()
    if let completion = read?.completion {
      memory.ledger.unpin(completion.run.slots)
      memory.ports.readAhead.giveBack(completion.buffer)
    }
    read = nil
  }
}
