/// What a ledger knows besides the records: private to this process, and rebuilt from them by the next.
struct LedgerBooks: Sendable {
  var isOpen: Bool { staged.capacity > 0 }
  /// Pages whose record says more than that they are the guest's: looking at the others' would take memory.
  var recorded: PageBitmap
  var staged: PageBitmap
  /// Staged copies that nobody needs any more, and whose memory is still to be given back.
  var releasable: PageBitmap
  /// Staged copies that were seen to be zeros as they were made.
  var zeroCopies: PageBitmap
  /// Staged copies that an earlier worker has made, or that were abandoned half made: zeros or not.
  var unseenCopies: PageBitmap
  /// Removed by the tenant, and perhaps not carried out by the kernel yet.
  var discarding: PageBitmap
  /// In the file, by a slot that was read wrong once.
  var doubtful: PageBitmap
  var unreadable: PageBitmap
  /// Not unreadable any more, while processes may still fail at them.
  var unhealed: PageBitmap
  var releaseCursor = 0
  /// How many give copies back by turns just now.
  var releasers = 0
  var discardGeneration = 0
  /// So may all pages be: an earlier worker has died, and what it knew of removals is lost.
  var allMayBeDiscarding = false
  var isClosing = false
  /// What the last `enable` has left resident for want of memory.
  var unmoved: [PageRange] = []
  var filePages = 0
  var slots: SwapSlots
  var staleCursor = SwapSlot(0)
  var readCursor = SwapSlot(0)
  var lookCursor = 0
  var counters = FaultCounters()

  /// Whether processes may get SIGBUS at a page.
  func mayFail(_ page: Int) -> Bool { unreadable.contains(page) || unhealed.contains(page) }

  /// - Parameters:
  ///   - slotLimit: how long the swap file may become, in slots.
  ///   - leftover: how many slots an earlier life has left content in.
  ///   - punching: which of those behind them are just being punched.
  init(pageCount: Int, slotLimit: Int = .max, leftover: Int = 0, punching: SlotRange? = nil) {
    recorded = PageBitmap(capacity: pageCount)
    staged = PageBitmap(capacity: pageCount)
    releasable = PageBitmap(capacity: pageCount)
    zeroCopies = PageBitmap(capacity: pageCount)
    unseenCopies = PageBitmap(capacity: pageCount)
    discarding = PageBitmap(capacity: pageCount)
    doubtful = PageBitmap(capacity: pageCount)
    unreadable = PageBitmap(capacity: pageCount)
    unhealed = PageBitmap(capacity: pageCount)
    slots = SwapSlots(capacity: pageCount, limit: slotLimit)
    if leftover > 0 || punching != nil { slots.adoptLeftover(length: leftover, punching: punching) }
  }

  func nextMovable(in range: PageRange) -> PageRange? {
    var first = range.lowerBound.rawValue
    let end = range.upperBound.rawValue
    while first < end, discarding.contains(first) || mayFail(first) { first += 1 }
    guard first < end, !allMayBeDiscarding else { return nil }
    let stop = min(
      discarding.nextMember(from: first) ?? end, unreadable.nextMember(from: first) ?? end,
      unhealed.nextMember(from: first) ?? end, end)
    return PageIndex(first)..<PageIndex(stop)
  }

  /// Staged pages at or behind `start`, scattered as they may be.
  func nextStagedPages(from start: Int, limit: Int) -> [PageIndex] {
    var found: [PageIndex] = []
    found.reserveCapacity(limit)
    var position = start
    while found.count < limit,
      let run = staged.nextRun(from: position, before: staged.capacity, limit: limit - found.count)
    {
      for page in run { found.append(PageIndex(page)) }
      position = run.upperBound
    }
    return found
  }
}
