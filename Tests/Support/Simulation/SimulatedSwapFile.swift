package import Domain

/// The swap file and its disk: writes may end early or leave garbage, reads may fail, or bring something else.
package final class SimulatedSwapFile: SwapFile, @unchecked Sendable {  // belongs to whoever holds the baton
  private let kernel: SimulatedKernel
  private let corruptsPerMille: Int
  private var slots: [Int: UInt64] = [:]
  /// What the disk has silently lost, for the day on which it is repaired.
  private var corrupted: [Int: UInt64] = [:]
  /// The page that each slot was last written for.
  private var owners: [Int: PageIndex] = [:]
  /// Written since the last success of `makeDurable`.
  private var volatile: Set<Int> = []
  /// Takes space on the disk.
  private var allocated: Set<Int> = []
  /// Written, and perhaps still being written.
  private var underWay: [SlotRange] = []
  private var lateFailure: PortFailure?
  private var reads: [SlotRange] = []
  /// Slots that were read wrong once, and how often their pages had come back by then: they are about to fail for good.
  private var failing: [Int: Int] = [:]
  /// Writes that go on after their end.
  private var late: [(slot: Int, page: PageIndex)] = []
  package private(set) var isEmpty = true
  private let slotLimit: Int

  init(kernel: SimulatedKernel, corruptsPerMille: Int, slotLimit: Int) {
    self.slotLimit = slotLimit
    self.kernel = kernel
    self.corruptsPerMille = corruptsPerMille
  }

  package func allocate(_ target: SlotRange) throws(PortFailure) {
    kernel.enterBlocking("file.allocate(\(target.text))")
    try kernel.mayFail(.writeSwapFile, ErrorNumber.noSpace)
    isEmpty = false
    for slot in target { allocated.insert(slot.rawValue) }
  }

  package func write(_ pages: [PageIndex], to target: SlotRange) throws(PortFailure) -> [PageChecksum] {
    kernel.enterBlocking("file.write(\(pages.map(\.rawValue)) to \(target.text))")
    if pages.count != target.count { kernel.fail("\(pages.count) pages are written to \(target.count) slots") }
    if target.upperBound.rawValue > slotLimit {
      kernel.fail("\(target.text) is beyond the swap file's largest length")
    }
    failIfUnderWay(target, "written")
    underWay.append(target)
    if target.contains(where: { !allocated.contains($0.rawValue) }) {
      kernel.fail("\(target.text) are written without space")
    }
    writeLate()
    let failing = kernel.injector.failure(among: [ErrorNumber.noSpace, ErrorNumber.inputOutput])
    let good = failing == nil ? pages.count : kernel.random.below(pages.count)
    isEmpty = false
    var checksums: [PageChecksum] = []
    for (number, (page, slot)) in zip(pages, target).enumerated() {
      if reads.contains(where: { $0.contains(slot) }) { kernel.fail("\(slot) is written while it is read") }
      let token = kernel.readStaging(page)
      checksums.append(kernel.checksum(of: token))
      owners[slot.rawValue] = page
      corrupted[slot.rawValue] = nil
      self.failing[slot.rawValue] = nil
      volatile.insert(slot.rawValue)
      if number >= good || kernel.defect == .writesAreGarbage {
        slots[slot.rawValue] = kernel.garbage()
      } else if kernel.injector.isOn, kernel.random.chance(perMille: corruptsPerMille) {
        kernel.log("\(slot) is silently corrupted")
        slots[slot.rawValue] = kernel.garbage()
        corrupted[slot.rawValue] = token
        kernel.model.mayBecomeUnreadable(page)
      } else {
        slots[slot.rawValue] = token
        if kernel.defect == .writesEndLate { late.append((slot.rawValue, page)) }
      }
      kernel.perhapsYield()
    }
    if kernel.defect == .writesReachOneSlotMore, slots[target.upperBound.rawValue] != nil {
      slots[target.upperBound.rawValue] = kernel.garbage()
    }
    if let failing, kernel.defect != .shortWritesPass {
      let failure = PortFailure(.writeSwapFile, errorNumber: failing)
      if kernel.random.chance(perMille: 500) { throw failure }
      lateFailure = lateFailure ?? failure
    }
    return checksums
  }

  private func failIfUnderWay(_ range: SlotRange, _ what: String) {
    if underWay.contains(where: { $0.overlaps(range) }) {
      kernel.fail("\(range.text) are \(what) while a write to them goes on")
    }
  }

  package func makeDurable() throws(PortFailure) {
    kernel.enterBlocking("file.makeDurable")
    underWay.removeAll()
    if let failure = lateFailure {
      lateFailure = nil
      throw failure
    }
    if let number = kernel.injector.failure(among: [ErrorNumber.inputOutput, ErrorNumber.noSpace]) {
      // What was not durable before may be lost, whatever a read says now (fsync(2) after an error).
      for slot in volatile.sorted() where kernel.random.chance(perMille: 500) { slots[slot] = kernel.garbage() }
      if kernel.defect == .flushIsTriedAgain { return volatile.removeAll() }
      throw PortFailure(.flushSwapFile, errorNumber: number)
    }
    volatile.removeAll()
  }

  package func read(_ range: SlotRange, into buffer: SimulatedBuffer) throws(PortFailure) {
    kernel.enterBlocking("file.read(\(range.text))")
    begin(range)
    defer { end(range) }
    kernel.perhapsYield()
    try fill(buffer, from: FileRun([range]))
    kernel.perhapsYield()
  }

  package func punch(_ range: SlotRange) throws(PortFailure) {
    kernel.enterBlocking("file.punch(\(range.text))")
    failIfUnderWay(range, "punched")
    try kernel.mayFail(.punchSwapFile, ErrorNumber.inputOutput)
    for slot in range {
      if reads.contains(where: { $0.contains(slot) }) { kernel.fail("\(slot) is punched while it is read") }
      slots[slot.rawValue] = nil
      allocated.remove(slot.rawValue)
      corrupted[slot.rawValue] = nil
      kernel.perhapsYield()
    }
  }

  package func truncate() throws(PortFailure) {
    kernel.enterBlocking("file.truncate")
    if !reads.isEmpty { kernel.fail("the swap file is emptied while it is read") }
    if !underWay.isEmpty { kernel.fail("the swap file is emptied while a write goes on") }
    try kernel.mayFail(.truncateSwapFile, ErrorNumber.inputOutput)
    slots.removeAll()
    allocated.removeAll()
    corrupted.removeAll()
    volatile.removeAll()
    failing.removeAll()
    late.removeAll()
    isEmpty = true
  }

  /// The disk gives back what it had lost.
  package func repair() {
    for (slot, token) in corrupted { slots[slot] = token }
    corrupted.removeAll()
  }

  /// Its reads are over, and nobody has been warned of slots that it read wrong.
  func workerDied() {
    reads.removeAll()
    underWay.removeAll()
    lateFailure = nil
    failing.removeAll()
  }

  func begin(_ range: SlotRange) { reads.append(range) }

  func end(_ range: SlotRange) {
    guard let index = reads.firstIndex(of: range) else { return }
    reads.remove(at: index)
  }

  /// What is read of slots that nobody wants is anything: somebody may be writing or punching them.
  func fill(_ buffer: SimulatedBuffer, from run: FileRun) throws(PortFailure) {
    writeLate()
    let wanted = run.pieces.flatMap { Array($0) }
    loseFailing(wanted)
    if let number = kernel.injector.failure(among: [ErrorNumber.inputOutput]) {
      for slot in wanted { isReadWrong(slot) }
      if kernel.defect != .wrongReadsAreHidden { throw PortFailure(.readSwapFile, errorNumber: number) }
    }
    let changed = kernel.injector.failure(among: [1]) == nil ? nil : wanted[kernel.random.below(wanted.count)]
    for number in 0..<run.slots.count { buffer[number] = kernel.garbage() }
    for slot in wanted {
      let number = run.index(of: slot)
      buffer[number] = slots[slot.rawValue] ?? kernel.garbage()
      guard slot == changed else { continue }
      isReadWrong(slot)
      if kernel.defect != .wrongReadsAreHidden { buffer[number] = kernel.garbage() }
    }
  }

  private func isReadWrong(_ slot: SwapSlot) {
    kernel.log("\(slot) is read wrong")
    guard let page = owners[slot.rawValue] else { return }
    kernel.model.mayBecomeUnreadable(page)
    failing[slot.rawValue] = kernel.returns[page.rawValue]
  }

  /// Who has read a slot wrong, and its page right in the end, has been warned: for the next page that trusts the slot it
  /// may be too late, and that is no excuse.
  private func loseFailing(_ wanted: [SwapSlot]) {
    for slot in wanted {
      guard let returns = failing[slot.rawValue], let page = owners[slot.rawValue],
        kernel.returns[page.rawValue] > returns, kernel.random.chance(perMille: 500)
      else { continue }
      kernel.log("\(slot) has failed for good")
      slots[slot.rawValue] = kernel.garbage()
    }
  }

  private func writeLate() {
    for write in late { slots[write.slot] = kernel.staging[write.page.rawValue] ?? 0 }
    late.removeAll()
  }
}

extension SlotRange {
  var text: String { "slots \(lowerBound.rawValue)..<\(upperBound.rawValue)" }
}
