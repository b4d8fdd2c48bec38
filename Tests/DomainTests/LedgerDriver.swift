import Domain
import TestSupport

/// Page tables in plain memory, which remember the order of writes.
final class PlainTable: RecordTable, @unchecked Sendable {  // used by one thread
  enum Write: Equatable {
    case record(PageRecord, PageIndex)
    case checksum(PageChecksum, PageIndex)
  }
  private var records: [PageRecord]
  private var checksums: [PageChecksum]
  private(set) var writes: [Write] = []
  private(set) var resets = 0

  init(pageCount: Int) {
    records = .init(repeating: .guest, count: pageCount)
    checksums = .init(repeating: PageChecksum(low: 0, high: 0), count: pageCount)
  }

  func record(of page: PageIndex) -> PageRecord { records[page.rawValue] }
  func nextRecorded(from start: PageIndex) -> PageIndex? {
    records.indices.dropFirst(start.rawValue).first { records[$0] != .guest }.map { PageIndex($0) }
  }
  func checksum(of page: PageIndex) -> PageChecksum { checksums[page.rawValue] }
  func setRecord(_ record: PageRecord, of page: PageIndex) {
    records[page.rawValue] = record
    writes.append(.record(record, page))
  }
  func setChecksum(_ checksum: PageChecksum, of page: PageIndex) {
    checksums[page.rawValue] = checksum
    writes.append(.checksum(checksum, page))
  }
  func reset() {
    for page in records.indices {
      records[page] = .guest
      checksums[page] = PageChecksum(low: 0, high: 0)
    }
    resets += 1
  }
}

/// No lock, for one thread; it sees a lock that is taken twice (which would never return) or left behind.
final class CountedLock: LedgerLock, @unchecked Sendable {  // used by one thread
  private(set) var depth = 0
  private(set) var deepest = 0

  func lock() {
    depth += 1
    deepest = max(deepest, depth)
  }
  func unlock() { depth -= 1 }
}

/// A ledger with everything around it in small: the content of guest memory, staging memory and the swap file, as one
/// number per page. Each step is one that the services take; what it must lead to is worked out here by itself.
struct LedgerDriver {
  struct Page {
    var state = PageState.guest
    /// The page's slot: valid, or read wrong where the state is `unreadable`.
    var slot: Int?
    /// The slot that the page is being written to, as long as it has not been touched.
    var writing: Int?
    /// What the tenant must read.
    var content = 0
    /// What staging memory holds; nil where it has a hole.
    var staging: Int?
    /// Whether its copy was seen as it was made.
    var isSeen = false
    var isReleasable = false
    var isDiscarding = false
    /// Processes may still fail at it.
    var isUnhealed = false
    var isMovable: Bool { !isDiscarding && !isUnhealed && state != .unreadable }
    var isInFile: Bool { state == .file || state == .unreadable }
  }

  let table: PlainTable
  let lock = CountedLock()
  let ledger: PageLedger<PlainTable, CountedLock>
  var pages: [Page]
  /// What each slot holds; nil while it is written.
  var disk: [Int?]
  var writes: [(batch: WriteBatch, contents: [Int])] = []
  /// What is pinned, and which of it somebody wants.
  var reads: [(pinned: SlotRange, wanted: [SwapSlot])] = []
  var faults = FaultCounters()
  private var lastContent = 0

  init(pageCount: Int) {
    table = PlainTable(pageCount: pageCount)
    ledger = PageLedger(pageCount: pageCount, table: table, lock: lock)
    pages = .init(repeating: Page(), count: pageCount)
    disk = .init(repeating: nil, count: pageCount)
    ledger.open()
  }

  static func checksum(_ content: Int?) -> PageChecksum {
    PageChecksum(low: UInt64(content ?? 0), high: content == nil ? 0 : ~0)
  }
  static func range(_ range: Range<Int>) -> PageRange { PageIndex(range.lowerBound)..<PageIndex(range.upperBound) }
  static func raw(_ range: PageRange) -> Range<Int> { range.lowerBound.rawValue..<range.upperBound.rawValue }

  mutating func freshContent() -> Int {
    lastContent += 1
    return lastContent
  }

  // MARK: What steps do to a page

  mutating func leave(_ page: Int) {
    if pages[page].state == .staged || pages[page].state == .punching { pages[page].isReleasable = true }
    if pages[page].state == .unreadable {
      pages[page].slot = nil
      pages[page].isUnhealed = true
    }
    pages[page].writing = nil
  }

  mutating func returned(_ page: Int) {
    leave(page)
    pages[page].state = .guest
  }

  /// The guest got content of its own while the page was recorded elsewhere: that content counts.
  mutating func guestWrote(_ page: Int) { pages[page].content = freshContent() }

  /// Slots that nothing else may be written to.
  var slotsInUse: Set<Int> {
    var slots = Set(pages.compactMap(\.slot))
    for write in writes { slots.formUnion(write.batch.slots.map(\.rawValue)) }
    for read in reads { slots.formUnion(read.wanted.map(\.rawValue)) }
    return slots
  }

  func nextRun(from start: Int, before end: Int, limit: Int, _ isMember: (Page) -> Bool) -> Range<Int>? {
    guard start < end, let first = (start..<end).first(where: { isMember(pages[$0]) }) else { return nil }
    var last = first
    while last < end, last - first < limit, isMember(pages[last]) { last += 1 }
    return first..<last
  }

  // MARK: What must hold between any two steps

  func check() throws {
    try requireEqual(lock.depth, 0, "locks left behind")
    try requireEqual(lock.deepest, 1, "locks on top of each other")
    for (number, page) in pages.enumerated() { try check(page, number) }
    let slots = pages.compactMap(\.slot)
    try requireEqual(Set(slots).count, slots.count, "pages that have a slot for themselves")
    var counts = ledger.counts
    counts.staged = pages.count { $0.state == .staged }
    counts.file = pages.count { $0.state == .file }
    counts.unreadable = pages.count { $0.state == .unreadable }
    counts.releasable = pages.count { $0.isReleasable }
    counts.unhealed = pages.count { $0.isUnhealed }
    counts.discarding = pages.count { $0.isDiscarding }
    counts.pinnedRuns = reads.count
    counts.faults = faults
    try requireEqual(ledger.counts, counts, "counts")
  }

  private func check(_ page: Page, _ number: Int) throws {
    let index = PageIndex(number)
    let expected =
      page.state == .unreadable
      ? PageRecord(.unreadable, slot: page.slot.map { SwapSlot($0) })
      : page.state == .guest && page.isUnhealed
        ? .guestMayFail
        : PageRecord(
          page.state, slot: (page.writing ?? page.slot).map { SwapSlot($0) }, slotIsValid: page.writing == nil)
    try requireEqual(ledger.record(of: index), expected, "record of \(index) (\(page))")
    if let slot = page.slot {
      try requireEqual(ledger.owner(of: SwapSlot(slot)), index, "owner of slot \(slot)")
      try require(disk[slot] != nil, "slot \(slot) of \(index) is being written, and trusted")
      try requireEqual(ledger.checksum(of: index), Self.checksum(disk[slot]), "checksum of \(index)")
      if page.isInFile { try requireEqual(disk[slot], page.content, "content of \(index) in the file") }
    }
    switch page.state {
    case .staged:
      try requireEqual(page.staging, page.content, "content of \(index) in staging")
      try require(!page.isReleasable, "\(index) is staged, and its memory is to be given back")
    case .file, .unreadable: try require(page.slot != nil, "\(index) is nowhere")
    case .guest, .punching: break
    }
    if page.state != .staged, page.state != .punching, page.staging != nil, !page.isReleasable {
      try require(writes.contains { $0.batch.pages.contains(index) }, "the staged copy of \(index) is forgotten")
    }
  }
}
