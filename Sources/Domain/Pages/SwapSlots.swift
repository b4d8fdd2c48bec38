/// Which places of a tenant's swap file are taken, and by which page.
///
/// The file stays compact: slots are handed out from its beginning, in runs, and grow it only where no good run is free.
/// A slot's I/O keeps it from being handed out again: while it is *pinned* (read), freeing it takes effect at the last unpin.
package struct SwapSlots: Sendable {
  /// The file never needs more slots than the tenant has pages.
  package let capacity: Int
  /// No slot at or behind it is handed out: the file's largest length. Those that are taken there stay so.
  package let limit: Int
  /// Whether no slot can be handed out, and waiting for reads or punches to end would not change that.
  package var areUsedUp: Bool { freedWhilePinned.count == 0 && findRun(1) == nil }
  /// Slots that hold something or are being written.
  package var usedCount: Int { used.count }
  /// Reads under way.
  package var pinnedRuns: Int { pinned.count }
  /// One past the highest slot that may hold anything: the file's length in pages.
  package private(set) var length = 0

  private var used: PageBitmap
  /// Free slots whose content still takes space on the disk.
  private var punchable: PageBitmap
  /// Freed while they were being read: still `used`, owned by nobody.
  private var freedWhilePinned: PageBitmap
  /// Owner of each slot below `length`, in leaves of 32 KiB: one long array would be copied as it grows, and be half empty.
  private var owners: [[UInt32]] = []
  private static let ownersPerLeaf = 1 << 13
  private var pinned: [SlotRange] = []
  private var searchStart = 0

  /// How many free runs one allocation looks at before it grows the file: bounds its time in a fragmented file.
  private static let runsExamined = 64
  /// Simultaneous reads that need no allocation of memory.
  private static let expectedPins = 64

  package init(capacity: Int, limit: Int = .max) {
    precondition(capacity <= Int(UInt32.max), "more slots than an owner's number can tell")
    self.capacity = capacity
    self.limit = min(capacity, limit)
    used = PageBitmap(capacity: capacity)
    punchable = PageBitmap(capacity: capacity)
    freedWhilePinned = PageBitmap(capacity: capacity)
    pinned.reserveCapacity(Self.expectedPins)
  }

  package func owner(of slot: SwapSlot) -> PageIndex {
    PageIndex(Int(owners[slot.rawValue / Self.ownersPerLeaf][slot.rawValue % Self.ownersPerLeaf]))
  }

  /// Takes the best run for `wanted` pages: a free run as long as that, else new slots at the file's end, else the
  /// longest of the runs looked at. Slots of a run belong to nobody until `setOwner`.
  ///
  /// - Returns: 1 to `wanted` consecutive slots; nil when every slot is taken.
  package mutating func allocateRun(upTo wanted: Int) -> SlotRange? {
    precondition(wanted > 0, "an allocation of no slots")
    guard let run = findRun(wanted) else { return nil }
    used.insert(run)
    punchable.remove(run)
    coverLength(of: SwapSlot(run.upperBound - 1))
    // Gaps that were too short for this run are kept in mind for shorter ones.
    if let gap = used.nextGap(from: searchStart) { searchStart = gap }
    return SwapSlot(run.lowerBound)..<SwapSlot(run.upperBound)
  }

  package mutating func setOwner(of slot: SwapSlot, to page: PageIndex) {
    owners[slot.rawValue / Self.ownersPerLeaf][slot.rawValue % Self.ownersPerLeaf] = UInt32(page.rawValue)
  }

  /// Gives a slot back; if it is being read, it becomes free when the last read has ended.
  package mutating func free(_ slot: SwapSlot) {
    precondition(used.contains(slot.rawValue), "a slot is freed that nobody holds")
    if pinned.contains(where: { $0.contains(slot) }) {
      freedWhilePinned.insert(slot.rawValue)
    } else {
      release(slot.rawValue)
    }
  }

  /// Keeps slots from being handed out while they are read.
  package mutating func pin(_ slots: SlotRange) { pinned.append(slots) }

  package mutating func unpin(_ slots: SlotRange) {
    guard let index = pinned.firstIndex(of: slots) else {
      preconditionFailure("slots are unpinned that were not pinned")
    }
    pinned.swapAt(index, pinned.count - 1)
    pinned.removeLast()
    guard freedWhilePinned.count > 0 else { return }
    for slot in slots where freedWhilePinned.contains(slot.rawValue) && !pinned.contains(where: { $0.contains(slot) }) {
      freedWhilePinned.remove(slot.rawValue)
      release(slot.rawValue)
    }
  }

  /// Free slots whose content still takes space on the disk.
  package var punchableCount: Int { punchable.count }

  /// The next such slots; they are taken until `endPunch`, so that nobody writes to them meanwhile.
  package mutating func beginPunch(limit: Int) -> SlotRange? {
    guard let run = punchable.nextRun(from: 0, before: capacity, limit: limit) else { return nil }
    punchable.remove(run)
    used.insert(run)
    return SwapSlot(run.lowerBound)..<SwapSlot(run.upperBound)
  }

  /// - Parameter isDone: whether the disk has its space back; else it is to be tried again.
  package mutating func endPunch(_ slots: SlotRange, isDone: Bool) {
    let run = slots.lowerBound.rawValue..<slots.upperBound.rawValue
    used.remove(run)
    if !isDone { punchable.insert(run) }
    searchStart = min(searchStart, run.lowerBound)
  }

  /// An earlier life has left content in the file, up to this length.
  ///
  /// - Parameter punching: what is just being punched; `endPunch` will tell of it.
  package mutating func adoptLeftover(length: Int, punching: SlotRange?) {
    punchable.insert(0..<length)
    makeLength(punching.map { max(length, $0.upperBound.rawValue) } ?? length)
    if let punching { used.insert(punching.lowerBound.rawValue..<punching.upperBound.rawValue) }
  }

  /// Makes a slot taken that a record of an earlier run names.
  package mutating func adopt(_ slot: SwapSlot, owner page: PageIndex) {
    used.insert(slot.rawValue)
    coverLength(of: slot)
    setOwner(of: slot, to: page)
  }

  /// The file reaches to a slot's end at least.
  package mutating func coverLength(of slot: SwapSlot) {
    if slot.rawValue >= length { makeLength(slot.rawValue + 1) }
  }

  private mutating func makeLength(_ slots: Int) {
    length = slots
    while owners.count * Self.ownersPerLeaf < slots {
      owners.append([UInt32](repeating: 0, count: Self.ownersPerLeaf))
    }
  }

  /// After the last `adopt`: what lies between the taken slots may still hold something.
  package mutating func wasteGaps() {
    var position = 0
    while let gap = used.nextGap(from: position), gap < length {
      position = min(used.nextMember(from: gap) ?? length, length)
      punchable.insert(gap..<position)
    }
  }

  /// The next run of taken slots at or behind `start`.
  package func nextUsedRun(from start: SwapSlot, limit: Int) -> SlotRange? {
    guard let run = used.nextRun(from: start.rawValue, before: length, limit: limit) else { return nil }
    return SwapSlot(run.lowerBound)..<SwapSlot(run.upperBound)
  }

  private mutating func release(_ slot: Int) {
    used.remove(slot)
    punchable.insert(slot)
    searchStart = min(searchStart, slot)
  }

  private func findRun(_ wanted: Int) -> Range<Int>? {
    guard used.count < limit else { return nil }
    var longest = 0..<0
    var position = searchStart
    let bound = min(length, limit)
    for _ in 0..<Self.runsExamined {
      guard let first = used.nextGap(from: position), first < bound else { break }
      let end = min(used.nextMember(from: first) ?? bound, bound)
      if end - first >= wanted { return first..<(first + wanted) }
      if end == bound { break }  // it touches the file's end, and can grow with it
      if end - first > longest.count { longest = first..<end }
      position = end
    }
    // Free slots at the file's end grow with it.
    let tail = used.lastMember(before: length).map { $0 + 1 } ?? 0
    if limit - tail >= min(wanted, longest.count + 1) { return tail..<min(tail + wanted, limit) }
    if !longest.isEmpty { return longest }
    guard let first = used.nextGap(from: 0), first < limit else { return nil }
    return first..<min(used.nextMember(from: first) ?? limit, limit, first + wanted)
  }
}
