/// The books of one tenant's pages: the only place where records change.
///
/// The records live in a table that outlives the worker; everything else here (bitmaps, counts, slots) is private, and can
/// be rebuilt from them. Every method is one atomic step under the ledger's lock. *When* a step may be taken, and under
/// which gate, is the services' business; the ledger keeps each step consistent in itself.
package final class PageLedger<Table: RecordTable, Lock: LedgerLock>: @unchecked Sendable {  // guarded by `lock`
  package let pageCount: Int
  private let slotLimit: Int
  let table: Table
  private let lock: Lock
  var books = LedgerBooks(pageCount: 0)
  /// Slots with content that nobody needs, from the file's beginning on, while the books are closed.
  var leftover = 0
  var punching: SlotRange?
  private var joinCount = 0

  /// - Parameter slotLimit: how long the swap file may become, in slots.
  package init(pageCount: Int, slotLimit: Int = .max, table: Table, lock: Lock) {
    self.pageCount = pageCount
    self.slotLimit = slotLimit
    self.table = table
    self.lock = lock
  }

  // MARK: Opening and closing

  /// Whether pages are monitored. Closed books cost no memory, and every page is the guest's.
  package var isOpen: Bool { locked { books.isOpen } }

  package func open() {
    locked {
      books = LedgerBooks(pageCount: pageCount, slotLimit: slotLimit, leftover: leftover, punching: punching)
      leftover = 0
    }
  }

  /// Grows with every process that joins: one that comes in the middle of a freeze is not stopped.
  package var joins: Int { locked { joinCount } }

  package func processJoined() { locked { joinCount += 1 } }

  /// Monitoring is being ended: no process may join until that is done.
  package var isClosing: Bool { locked { books.isClosing } }

  package func setClosing(_ isClosing: Bool) { locked { books.isClosing = isClosing } }

  /// Windows that the last `enable` has left resident, for want of memory. Forgotten when the books are closed.
  package var unmoved: [PageRange] { locked { books.unmoved } }

  package func setUnmoved(_ windows: [PageRange]) { locked { books.unmoved = windows } }

  /// - Precondition: every page is the guest's again, or the tenant is dead.
  package func close() {
    locked {
      leftover = max(leftover, books.slots.length)
      books = LedgerBooks(pageCount: 0)
      table.reset()
    }
  }

  // MARK: Taking over

  /// Opens the books anew from the records that an earlier worker has left.
  ///
  /// What that one knew of removals is lost: until they are settled, any page may be on its way out.
  package func rebuild() {
    locked {
      books = LedgerBooks(pageCount: pageCount, slotLimit: slotLimit)
      books.allMayBeDiscarding = true
      (leftover, punching) = (0, nil)
      var position = PageIndex(0)
      while let page = table.nextRecorded(from: position) {
        adopt(page)
        position = page + 1
      }
      books.slots.wasteGaps()
    }
  }

  private func adopt(_ page: PageIndex) {
    let record = table.record(of: page)
    guard record != .guest else { return }
    books.recorded.insert(page.rawValue)
    if record.mayFail { books.unhealed.insert(page.rawValue) }
    switch record.state {
    case .guest: break
    case .punching: books.unseenCopies.insert(page.rawValue)
    case .staged:
      books.staged.insert(page.rawValue)
      books.unseenCopies.insert(page.rawValue)
    case .file: books.filePages += 1
    case .unreadable: books.unreadable.insert(page.rawValue)
    }
    guard let slot = record.slot else { return }
    if record.slotIsValid || record.state == .unreadable {
      books.slots.adopt(slot, owner: page)
    } else {
      books.slots.coverLength(of: slot)
      setRecord(PageRecord(record.state), of: page)  // it was just being written
    }
  }

  /// The next pages whose copies are complete, and whose holes are not certain; all in one run.
  package func nextPunching(from start: PageIndex) -> PageRange? {
    locked {
      func isPunching(_ page: Int) -> Bool { table.record(of: PageIndex(page)).state == .punching }
      var first = start.rawValue
      while let found = books.recorded.nextMember(from: first) {
        first = found + 1
        guard isPunching(found) else { continue }
        var end = found + 1
        while end < pageCount, isPunching(end) { end += 1 }
        return PageIndex(found)..<PageIndex(end)
      }
      return nil
    }
  }

  /// The guest has data there, which wins over everything recorded.
  package func guestHas(_ range: PageRange) {
    locked {
      var position = range.lowerBound.rawValue
      while let found = books.recorded.nextMember(from: position), found < range.upperBound.rawValue {
        position = found + 1
        let page = PageIndex(found)
        let old = table.record(of: page)
        if old.state != .guest { takeBack(page, old) }
      }
    }
  }

  // MARK: Looking

  package func record(of page: PageIndex) -> PageRecord { table.record(of: page) }
  package func checksum(of page: PageIndex) -> PageChecksum { table.checksum(of: page) }
  package func owner(of slot: SwapSlot) -> PageIndex { locked { books.slots.owner(of: slot) } }

  package var counts: PageCounts {
    locked {
      PageCounts(
        staged: books.staged.count, file: books.filePages, unreadable: books.unreadable.count,
        unhealed: books.unhealed.count, releasable: books.releasable.count, discarding: books.discarding.count,
        pinnedRuns: books.slots.pinnedRuns, faults: books.counters)
    }
  }

  package func resetCounters() { locked { books.counters = FaultCounters() } }

  package func nextStaged(from page: PageIndex, before end: PageIndex, limit: Int) -> PageRange? {
    locked { pages(books.staged.nextRun(from: page.rawValue, before: end.rawValue, limit: limit)) }
  }

  /// The same, and which of the pages from there on, 64 at most, are staged.
  package func nextStagedMask(from page: PageIndex, before end: PageIndex) -> PageMask? {
    locked {
      guard let first = books.staged.nextMember(from: page.rawValue), first < end.rawValue else { return nil }
      let beyond = max(0, PageMask.capacity - (end.rawValue - first))
      return PageMask(start: PageIndex(first), bits: books.staged.word(from: first) & (~0 >> UInt64(beyond)))
    }
  }

  package func nextUnreadable(from page: PageIndex) -> PageIndex? {
    locked { books.unreadable.nextMember(from: page.rawValue).map { PageIndex($0) } }
  }

  // MARK: Removed by the tenant

  /// Forgets the pages' content everywhere. To be called with the gate held for changing, or exclusively.
  package func discard(_ range: PageRange) {
    locked {
      guard books.isOpen else { return }
      books.discardGeneration += 1
      books.counters.removed += range.count
      books.discarding.insert(range.lowerBound.rawValue..<range.upperBound.rawValue)
      var position = range.lowerBound.rawValue
      while let found = books.recorded.nextMember(from: position), found < range.upperBound.rawValue {
        position = returnPlainlyStaged(from: found, before: range.upperBound.rawValue)
        guard position == found else { continue }
        let page = PageIndex(found)
        let old = table.record(of: page)
        leave(page, old)
        setRecord(.guest, of: page)
        if let slot = old.state == .unreadable ? old.slot : old.validSlot { books.slots.free(slot) }
        position = found + 1
      }
    }
  }

  /// Grows with every discard.
  package var discardGeneration: Int { locked { books.discardGeneration } }

  /// Every remove announced so far has been carried out.
  package func settleAllDiscards() {
    locked {
      books.discarding.removeAll()
      books.allMayBeDiscarding = false
    }
  }

  /// Those are over that an earlier worker had read.
  package func settleInheritedDiscards() { locked { books.allMayBeDiscarding = false } }

  /// These pages were seen to be holes in the guest.
  package func settleDiscards(_ range: PageRange) {
    locked { books.discarding.remove(range.lowerBound.rawValue..<range.upperBound.rawValue) }
  }

  /// The first run of pages in `range` that no remove is under way for, and that no process may still fail at.
  package func nextMovable(in range: PageRange) -> PageRange? { locked { books.nextMovable(in: range) } }

  // MARK: Healing

  /// A page that the guest holds, and that processes may still fail at.
  package var nextUnhealed: PageIndex? { locked { books.unhealed.nextMember(from: 0).map { PageIndex($0) } } }

  package func pageHealed(_ page: PageIndex) {
    locked {
      books.unhealed.remove(page.rawValue)
      if table.record(of: page).state == .guest { setRecord(.guest, of: page) }
    }
  }

  // MARK: Inside

  func setRecord(_ record: PageRecord, of page: PageIndex) {
    let isPoisoned = record == .guest && books.unhealed.contains(page.rawValue)
    let record = isPoisoned ? .guestMayFail : record
    if record == .guest { books.recorded.remove(page.rawValue) } else { books.recorded.insert(page.rawValue) }
    table.setRecord(record, of: page)
  }

  /// Takes a page out of the book of its state. The caller sets the new record, and frees the slot where it goes.
  func leave(_ page: PageIndex, _ old: PageRecord) {
    switch old.state {
    case .guest: break
    case .punching: books.releasable.insert(page.rawValue)
    case .staged:
      books.staged.remove(page.rawValue)
      books.releasable.insert(page.rawValue)
    case .file:
      books.filePages -= 1
      books.doubtful.remove(page.rawValue)
    case .unreadable:
      books.unreadable.remove(page.rawValue)
      books.unhealed.insert(page.rawValue)
    }
  }

  /// The same for many that are staged, at once.
  func leaveStaging(_ run: Range<Int>) {
    books.staged.remove(run)
    books.releasable.insert(run)
  }

  /// Frees a slot that a page elsewhere keeps for trimming.
  func dropStale(_ slot: SwapSlot, of page: PageIndex) {
    let old = table.record(of: page)
    guard old.validSlot == slot, old.state == .guest || old.state == .staged || old.state == .punching else { return }
    setRecord(PageRecord(old.state), of: page)
    books.slots.free(slot)
  }

  func pages(_ run: Range<Int>?) -> PageRange? {
    run.map { PageIndex($0.lowerBound)..<PageIndex($0.upperBound) }
  }

  func locked<Result>(_ body: () -> Result) -> Result {
    lock.lock()
    defer { lock.unlock() }
    return body()
  }
}
