/// A page's way back: from staging or the swap file into the guest.
extension PageLedger {
  /// Pages have been installed in the guest, or were found there: the guest's content counts from now on. A valid slot
  /// is kept, stale, so that trim can find the page unchanged later.
  package func pagesReturned(_ range: PageRange, faultFrom source: FaultSource? = nil) {
    locked {
      takeBack(range)
      books.counters.count(source)
    }
  }

  /// The same for scattered ones.
  package func pagesReturned(_ pages: PageMask) {
    var pages = pages
    locked { while let run = pages.popRun() { takeBack(run) } }
  }

  private func takeBack(_ range: PageRange) {
    var position = range.lowerBound.rawValue
    while position < range.upperBound.rawValue {
      position = returnPlainlyStaged(from: position, before: range.upperBound.rawValue)
      guard position < range.upperBound.rawValue else { break }
      takeBack(PageIndex(position), table.record(of: PageIndex(position)))
      position += 1
    }
  }

  /// A missing-page fault was served with zeros. The page was a hole, so what was removed from it is removed.
  package func zeroInstalled(_ page: PageIndex) {
    locked {
      books.discarding.remove(page.rawValue)
      books.counters.count(.zero)
    }
  }

  /// A missing-page fault found the page there. That settles nothing: the page may be on its way out (the fault can be
  /// older than a removal that has been read and not been carried out).
  package func faultWasRedundant() { locked { books.counters.count(.redundant) } }

  /// Pages that are staged, and of which nothing else is known, become the guest's, many at once.
  ///
  /// - Returns: where their run ends that begins here.
  func returnPlainlyStaged(from start: Int, before end: Int) -> Int {
    guard books.unhealed.count == 0 else { return start }
    let staged = PageRecord(.staged)
    var position = start
    while position < end, table.record(of: PageIndex(position)) == staged {
      table.setRecord(.guest, of: PageIndex(position))
      position += 1
    }
    guard position > start else { return start }
    books.recorded.remove(start..<position)
    leaveStaging(start..<position)
    return position
  }

  /// The page is the guest's.
  func takeBack(_ page: PageIndex, _ old: PageRecord) {
    let losesSlot = old.state == .unreadable || books.doubtful.contains(page.rawValue)
    leave(page, old)
    if old.state == .guest { return }
    setRecord(losesSlot ? .guest : old.moved(to: .guest), of: page)
    if losesSlot, let slot = old.slot { books.slots.free(slot) }
  }

  // MARK: From the file

  /// Pins the page's slot for reading. nil when the page is not in the file any more.
  package func pinForRead(_ page: PageIndex) -> SwapSlot? {
    locked {
      let record = table.record(of: page)
      guard record.state == .file, let slot = record.validSlot else { return nil }
      books.slots.pin(slot..<(slot + 1))
      return slot
    }
  }

  package func unpin(_ slots: SlotRange) { locked { books.slots.unpin(slots) } }

  /// The page's slot can't be read, or reads back wrong: it is never trusted again, and kept for another try.
  ///
  /// - Returns: false when the page is elsewhere by now; then it has lost the slot.
  package func pageUnreadable(_ page: PageIndex, slot: SwapSlot) -> Bool {
    locked {
      let old = table.record(of: page)
      guard old.slot == slot, old.state == .file || old.state == .unreadable else {
        dropStale(slot, of: page)
        return false
      }
      if old.state == .file { books.filePages -= 1 }
      books.doubtful.remove(page.rawValue)
      books.unreadable.insert(page.rawValue)
      books.unhealed.remove(page.rawValue)
      setRecord(PageRecord(.unreadable, slot: slot), of: page)
      return true
    }
  }

  /// The slot was read wrong once: trim must not leave the page to it. While the page is only there, that is kept in mind until
  /// it is back; its install may have to be tried again, with a read that goes well.
  package func distrust(_ slot: SwapSlot, of page: PageIndex) {
    locked {
      let record = table.record(of: page)
      if record.state == .file, record.slot == slot {
        books.doubtful.insert(page.rawValue)
      } else {
        dropStale(slot, of: page)
      }
    }
  }

  /// The next slots, at or behind `start`, whose pages are in the file only (or could not be read before), with gaps in between
  /// that cost less than another read; they are pinned.
  package func pinNextFileRun(from start: SwapSlot, limit: Int) -> FileRun? {
    locked { pinFileRun(from: start, limit: limit) }
  }

  /// The same, going on where the last one has ended.
  package func pinNextFileRun(limit: Int) -> FileRun? {
    locked {
      let run = pinFileRun(from: books.readCursor, limit: limit)
      if let run { books.readCursor = run.slots.upperBound }
      return run
    }
  }

  /// Lets it begin anew.
  package func restartFileRuns() { locked { books.readCursor = SwapSlot(0) } }

  private func pinFileRun(from start: SwapSlot, limit: Int) -> FileRun? {
    let length = SwapSlot(books.slots.length)
    guard let first = nextInFileOnly(from: start, before: length) else { return nil }
    let end = SwapSlot(min(first.rawValue + limit, length.rawValue))
    var pieces: [SlotRange] = []
    var next: SwapSlot? = first
    while let slot = next {
      var last = slot + 1
      while last < end, isInFileOnly(last) { last = last + 1 }
      pieces.append(slot..<last)
      next = nextInFileOnly(from: last, before: min(last + (FileRun.longestGap + 1), end))
    }
    let run = FileRun(pieces)
    books.slots.pin(run.slots)
    return run
  }

  private func nextInFileOnly(from start: SwapSlot, before end: SwapSlot) -> SwapSlot? {
    var position = start
    while position < end, let used = books.slots.nextUsedRun(from: position, limit: start.distance(to: end)) {
      if let slot = used.first(where: { $0 >= end || isInFileOnly($0) }) { return slot < end ? slot : nil }
      position = used.upperBound
    }
    return nil
  }

  /// The first of these slots whose page is in the file only, and how many pages follow each other from there as their slots
  /// do.
  package func nextInFile(_ slots: SlotRange) -> (first: SwapSlot, pages: PageRange)? {
    locked {
      guard let first = slots.first(where: { isInFileOnly($0) }) else { return nil }
      let page = books.slots.owner(of: first)
      var count = 1
      while first + count < slots.upperBound, books.slots.owner(of: first + count) == page + count,
        isInFileOnly(first + count)
      { count += 1 }
      return (first, page..<(page + count))
    }
  }

  private func isInFileOnly(_ slot: SwapSlot) -> Bool {
    let record = table.record(of: books.slots.owner(of: slot))
    return record.slot == slot && (record.state == .unreadable || record.state == .file)
  }
}
