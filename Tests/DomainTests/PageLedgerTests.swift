import Domain
import TestSupport
import Testing

@Suite struct PageLedgerTests {
  static let pageCounts = [1, 2, 3, 8, 20, 64, 65, 130]

  @Test("after any steps the books agree with a model of every page")
  func behavesAsModel() throws {
    try checkProperty("ledger and model agree", cases: 250) { choices in
      var driver = LedgerDriver(pageCount: choices.element(of: Self.pageCounts))
      choices.note("\(driver.pages.count) pages")
      try choices.rounds(upTo: 80) { try driver.step(&$0) }
    }
  }

  @Test("no slot and no staged copy is ever lost")
  func nothingLeaks() throws {
    try checkProperty("everything is given back", cases: 250) { choices in
      // Few pages, so that the same ones meet many steps.
      var driver = LedgerDriver(pageCount: choices.element(of: [1, 2, 3, 8, 20]))
      let all = PageIndex(0)..<PageIndex(driver.pages.count)
      try choices.rounds(upTo: 60) { try driver.step(&$0) }
      choices.note("now all writes and reads end, and everything is removed")
      while !driver.writes.isEmpty { try driver.endWrite(0, isDurable: true, &choices) }
      while !driver.reads.isEmpty { try driver.endRead(&choices) }
      driver.ledger.discard(all)
      driver.ledger.settleAllDiscards()
      while let page = driver.ledger.nextUnhealed { driver.ledger.pageHealed(page) }
      while driver.ledger.takeReleasable(limit: 7) != nil {}
      let counts = driver.ledger.counts
      try require(counts.allReturned && counts.releasable == 0 && counts.pinnedRuns == 0, "\(counts)")
      // As many slots as pages: if one is lost, the last page can't be written.
      driver.ledger.pagesPunching(all, zero: [])
      driver.ledger.pagesStaged(all)
      var slots: Set<SwapSlot> = []
      while let batch = driver.ledger.beginWrite(from: PageIndex(0), limit: 64) {
        slots.formUnion(batch.slots)
        let checksums = batch.pages.map { _ in LedgerDriver.checksum(1) }
        try requireEqual(driver.ledger.writeDurable(batch, checksums: checksums), batch.pages.count, "written")
      }
      try requireEqual(slots.count, driver.pages.count, "slots")
      try requireEqual(driver.ledger.counts.file, driver.pages.count, "pages in the file")
    }
  }

  @Test("copies are given back by one at a time, until there are too many")
  func releaseTurns() {
    let driver = LedgerDriver(pageCount: 8)
    driver.ledger.pagesPunching(LedgerDriver.range(0..<8), zero: [])
    driver.ledger.pagesStaged(LedgerDriver.range(0..<8))
    driver.ledger.pagesReturned(LedgerDriver.range(0..<4))
    #expect(driver.ledger.takeReleaseTurn(unlessMoreThan: 4))
    #expect(!driver.ledger.takeReleaseTurn(unlessMoreThan: 4))
    driver.ledger.pagesReturned(Self.page(4))
    #expect(driver.ledger.takeReleaseTurn(unlessMoreThan: 4))
    driver.ledger.endReleaseTurn()
    #expect(!driver.ledger.takeReleaseTurn(unlessMoreThan: 5), "the first one is not done")
    driver.ledger.endReleaseTurn()
    #expect(driver.ledger.takeReleaseTurn(unlessMoreThan: 5))
  }

  // MARK: Single steps whose order matters

  static var noCounts: PageCounts { LedgerDriver(pageCount: 1).ledger.counts }

  static func page(_ number: Int) -> PageRange { PageIndex(number)..<PageIndex(number + 1) }

  /// A ledger whose first pages are in the file, page n in slot n.
  static func driverWithFile(pages: Int, of pageCount: Int = 8) throws -> LedgerDriver {
    let driver = LedgerDriver(pageCount: pageCount)
    let range = LedgerDriver.range(0..<pages)
    driver.ledger.pagesPunching(range, zero: [])
    driver.ledger.pagesStaged(range)
    let batch = try #require(driver.ledger.beginWrite(from: PageIndex(0), limit: pages))
    let written = driver.ledger.writeDurable(batch, checksums: batch.pages.map { LedgerDriver.checksum($0.rawValue) })
    try #require(written == pages)
    return driver
  }

  @Test("a checksum is written before the record that makes it valid")
  func checksumBeforeRecord() throws {
    let driver = try Self.driverWithFile(pages: 1)
    let checksum = PlainTable.Write.checksum(LedgerDriver.checksum(0), PageIndex(0))
    let record = PlainTable.Write.record(PageRecord(.file, slot: SwapSlot(0), slotIsValid: true), PageIndex(0))
    #expect(Array(driver.table.writes.suffix(2)) == [checksum, record])
  }

  @Test("a page is recorded as punching before it is recorded as staged")
  func punchingBeforeStaged() {
    let driver = LedgerDriver(pageCount: 1)
    driver.ledger.pagesPunching(Self.page(0), zero: [])
    driver.ledger.pagesStaged(Self.page(0))
    #expect(
      driver.table.writes == [
        .record(PageRecord(.punching), PageIndex(0)), .record(PageRecord(.staged), PageIndex(0)),
      ])
  }

  @Test("a page that is touched and staged anew while it is written stays staged, and its slot is freed")
  func writeOfAnOldCopy() throws {
    let driver = LedgerDriver(pageCount: 1)
    driver.ledger.pagesPunching(Self.page(0), zero: [])
    driver.ledger.pagesStaged(Self.page(0))
    let batch = try #require(driver.ledger.beginWrite(from: PageIndex(0), limit: 1))
    driver.ledger.pagesReturned(Self.page(0), faultFrom: .staging)
    driver.ledger.pagesPunching(Self.page(0), zero: [])
    driver.ledger.pagesStaged(Self.page(0))
    #expect(driver.ledger.beginWrite(from: PageIndex(0), limit: 1) == nil, "the slot is still being written")
    #expect(driver.ledger.writeDurable(batch, checksums: [LedgerDriver.checksum(1)]) == 0)
    #expect(driver.ledger.record(of: PageIndex(0)) == PageRecord(.staged))
    #expect(driver.ledger.counts.releasable == 0)
    #expect(driver.ledger.beginWrite(from: PageIndex(0), limit: 1)?.slots == batch.slots)
  }

  @Test("a page that was read wrong and then right gives its slot up")
  func unreadableSlotIsNotKept() throws {
    let driver = try Self.driverWithFile(pages: 1)
    #expect(driver.ledger.pageUnreadable(PageIndex(0), slot: SwapSlot(0)))
    #expect(driver.ledger.counts.unreadable == 1 && !driver.ledger.counts.allReturned)
    let run = try #require(
      driver.ledger.pinNextFileRun(from: SwapSlot(0), limit: 4), "unreadable pages are tried again")
    driver.ledger.pagesReturned(Self.page(0))
    driver.ledger.unpin(run.slots)
    #expect(driver.ledger.record(of: PageIndex(0)) == .guestMayFail)
    driver.ledger.pageHealed(PageIndex(0))
    #expect(driver.ledger.record(of: PageIndex(0)) == .guest)
  }

  @Test("a page that is dropped as zero gives up the slot that it was brought back from")
  func zeroPageFreesItsSlot() throws {
    let driver = try Self.driverWithFile(pages: 1, of: 1)
    driver.ledger.pagesReturned(Self.page(0), faultFrom: .file)
    driver.ledger.pagesPunching(Self.page(0), zero: [])
    driver.ledger.pagesStaged(Self.page(0))
    #expect(driver.ledger.record(of: PageIndex(0)).validSlot == SwapSlot(0), "kept, so that trim can compare")
    #expect(driver.ledger.dropZero(PageIndex(0)))
    #expect(driver.ledger.record(of: PageIndex(0)) == .guest)
    driver.ledger.pagesPunching(Self.page(0), zero: [])
    driver.ledger.pagesStaged(Self.page(0))
    #expect(driver.ledger.beginWrite(from: PageIndex(0), limit: 1) != nil, "the only slot is free")
  }

  @Test("a slot that read wrong is not trusted, though its page came back by another read meanwhile")
  func wrongReadOfReturnedPage() throws {
    let driver = try Self.driverWithFile(pages: 1)
    let slot = try #require(driver.ledger.pinForRead(PageIndex(0)))
    _ = try #require(driver.ledger.pinForRead(PageIndex(0)))
    driver.ledger.pagesReturned(Self.page(0), faultFrom: .file)
    _ = driver.ledger.pageUnreadable(PageIndex(0), slot: slot)
    #expect(!driver.ledger.record(of: PageIndex(0)).slotIsValid)
  }

  @Test("slots of pages that came back are read along where they are few, and never wanted")
  func readAheadPassesOverReturnedPages() throws {
    let gap = FileRun.longestGap
    let driver = try Self.driverWithFile(pages: 2 * gap + 9, of: 2 * gap + 9)
    func comeBack(_ range: Range<Int>) { driver.ledger.pagesReturned(LedgerDriver.range(range)) }
    comeBack(0..<1)
    comeBack(2..<(2 + gap))
    comeBack((gap + 4)..<(2 * gap + 5))
    var runs: [[Range<Int>]] = []
    var position = SwapSlot(0)
    while let run = driver.ledger.pinNextFileRun(from: position, limit: gap + 4) {
      runs.append(run.pieces.map { $0.lowerBound.rawValue..<$0.upperBound.rawValue })
      position = run.slots.upperBound
    }
    #expect(runs == [[1..<2, (gap + 2)..<(gap + 4)], [(2 * gap + 5)..<(2 * gap + 9)]])
    #expect(driver.ledger.counts.pinnedRuns == 2)
    // The limit counts what is read along.
    let short = try #require(driver.ledger.pinNextFileRun(from: SwapSlot(0), limit: gap + 1))
    #expect(short.slots == SwapSlot(1)..<SwapSlot(2))
    #expect(short.nextPiece(from: 0) == short.slots && short.nextPiece(from: 1) == nil)
  }

  @Test("removes are counted, told by generation, and keep pages from being moved until they are settled")
  func discardsHoldPages() {
    let driver = LedgerDriver(pageCount: 100)
    let all = LedgerDriver.range(0..<100)
    let before = driver.ledger.discardGeneration
    driver.ledger.discard(LedgerDriver.range(0..<64))
    #expect(driver.ledger.discardGeneration > before)
    #expect(driver.ledger.nextMovable(in: all) == LedgerDriver.range(64..<100))
    #expect(driver.ledger.nextMovable(in: LedgerDriver.range(0..<64)) == nil)
    driver.ledger.faultWasRedundant()
    driver.ledger.zeroInstalled(PageIndex(10))
    driver.ledger.settleDiscards(LedgerDriver.range(20..<30))
    #expect(driver.ledger.nextMovable(in: all) == LedgerDriver.range(10..<11))
    #expect(driver.ledger.nextMovable(in: LedgerDriver.range(11..<25)) == LedgerDriver.range(20..<25))
    driver.ledger.settleAllDiscards()
    #expect(driver.ledger.nextMovable(in: all) == all)
  }

  @Test("closed books forget everything, and take removes and looks without harm")
  func closing() throws {
    let driver = try Self.driverWithFile(pages: 4)
    driver.ledger.zeroInstalled(PageIndex(5))
    #expect(driver.ledger.isOpen)
    driver.ledger.close()
    #expect(!driver.ledger.isOpen)
    #expect(driver.table.resets == 1)
    #expect(driver.ledger.counts == Self.noCounts)
    #expect(driver.ledger.record(of: PageIndex(0)) == .guest)
    driver.ledger.discard(LedgerDriver.range(0..<8))
    #expect(driver.ledger.counts.discarding == 0)
    #expect(driver.ledger.nextStaged(from: PageIndex(0), before: PageIndex(8), limit: 8) == nil)
    #expect(driver.ledger.beginWrite(from: PageIndex(0), limit: 8) == nil)
    #expect(driver.ledger.takeReleasable(limit: 8) == nil)
    #expect(driver.ledger.pinNextFileRun(from: SwapSlot(0), limit: 8) == nil)
    driver.ledger.open()
    #expect(driver.ledger.isOpen && driver.ledger.counts == Self.noCounts)
  }

  @Test("fault counters count by source, and are forgotten on demand")
  func counters() {
    let driver = LedgerDriver(pageCount: 8)
    driver.ledger.zeroInstalled(PageIndex(0))
    driver.ledger.faultWasRedundant()
    driver.ledger.pagesReturned(Self.page(1), faultFrom: .staging)
    driver.ledger.pagesReturned(Self.page(1), faultFrom: .staging)
    for _ in 0..<3 { driver.ledger.pagesReturned(Self.page(2), faultFrom: .file) }
    driver.ledger.pagesReturned(Self.page(3))
    let faults = driver.ledger.counts.faults
    #expect(faults.zeroed == 1 && faults.redundant == 1 && faults.copiedFromStaging == 2 && faults.copiedFromFile == 3)
    #expect(faults.total == 7, "what `disable` brings back is no fault")
    driver.ledger.resetCounters()
    #expect(driver.ledger.counts.faults == FaultCounters())
  }

  @Test("what was just being written when a worker died gives its space back")
  func halfWrittenSlots() throws {
    let table = PlainTable(pageCount: 8)
    let dead = PageLedger(pageCount: 8, table: table, lock: CountedLock())
    dead.open()
    dead.pagesPunching(LedgerDriver.range(0..<8), zero: [])
    dead.pagesStaged(LedgerDriver.range(0..<8))
    #expect(try #require(dead.beginWrite(from: PageIndex(0), limit: 6)).slots.count == 6)
    let next = PageLedger(pageCount: 8, table: table, lock: CountedLock())
    next.rebuild()
    #expect(next.counts.staged == 8 && next.wastedSlots == 6)
  }

  @Test("whether an earlier worker's copies are zeros is not known, until they are made anew")
  func unseenCopies() {
    let table = PlainTable(pageCount: 8)
    let dead = PageLedger(pageCount: 8, table: table, lock: CountedLock())
    dead.open()
    dead.pagesPunching(LedgerDriver.range(0..<8), zero: [PageIndex(1)])
    dead.pagesStaged(LedgerDriver.range(0..<6))
    let known = dead.nextToTrim(before: PageIndex(8), limit: 8)
    #expect(known.zero == [PageIndex(1)] && known.unread.isEmpty && known.count == 6)
    let next = PageLedger(pageCount: 8, table: table, lock: CountedLock())
    next.rebuild()
    next.settleInheritedDiscards()
    next.pagesStaged(LedgerDriver.range(6..<8))  // the holes that the dead worker's punch had made
    next.pagesReturned(LedgerDriver.range(2..<4))
    next.pagesPunching(LedgerDriver.range(2..<4), zero: [PageIndex(3)])
    next.pagesStaged(LedgerDriver.range(2..<4))
    let look = next.nextToTrim(before: PageIndex(8), limit: 8)
    #expect(look.zero == [PageIndex(3)] && look.count == 8)
    #expect(look.unread == [LedgerDriver.range(0..<2), LedgerDriver.range(4..<8)])
  }

  @Test("where slots are used up, pages that came back give theirs, and others keep theirs")
  func staleSlots() throws {
    let ledger = PageLedger(pageCount: 8, slotLimit: 4, table: PlainTable(pageCount: 8), lock: CountedLock())
    ledger.open()
    let all = LedgerDriver.range(0..<8)
    ledger.pagesPunching(all, zero: [])
    ledger.pagesStaged(all)
    let batch = try #require(ledger.beginWrite(from: PageIndex(0), limit: 8))
    #expect(batch.pages.count == 4)
    #expect(ledger.writeDurable(batch, checksums: batch.pages.map { LedgerDriver.checksum($0.rawValue) }) == 4)
    ledger.pagesReturned(LedgerDriver.range(1..<3))
    #expect(ledger.beginWrite(from: PageIndex(0), limit: 8) == nil && ledger.slotsAreUsedUp)
    while ledger.dropStaleSlots(limit: 1) {}
    #expect(!ledger.slotsAreUsedUp)
    #expect(try #require(ledger.beginWrite(from: PageIndex(0), limit: 8)).pages.count == 2)
    #expect(ledger.record(of: PageIndex(0)).state == .file && ledger.record(of: PageIndex(3)).state == .file)
    #expect(ledger.record(of: PageIndex(1)) == .guest)
  }
}
