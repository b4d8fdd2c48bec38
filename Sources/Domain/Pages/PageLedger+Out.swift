/// A page's way out: from the guest into staging, dropped or written from there, and the space that it leaves behind.
extension PageLedger {
  // MARK: Moving out of the guest

  /// The staged copies are complete; the pages are about to be punched.
  ///
  /// - Parameter zero: those whose copies are zeros; the others' are not.
  package func pagesPunching(_ range: PageRange, zero: [PageIndex]) {
    locked {
      let raw = range.lowerBound.rawValue..<range.upperBound.rawValue
      books.unseenCopies.remove(raw)
      books.zeroCopies.remove(raw)
      for page in zero { books.zeroCopies.insert(page.rawValue) }
      for page in range {
        let old = table.record(of: page)
        leave(page, old)
        books.releasable.remove(page.rawValue)
        setRecord(old.moved(to: .punching), of: page)
      }
    }
  }

  /// Copies were begun and will not be used: the pages are where they were. (One may be recorded as staged, while the guest
  /// has data, which counts; what its copy holds now is not known.)
  package func copyAbandoned(_ range: PageRange) {
    locked {
      let raw = range.lowerBound.rawValue..<range.upperBound.rawValue
      books.zeroCopies.remove(raw)
      books.unseenCopies.insert(raw)
      for page in range where table.record(of: page).state != .staged { books.releasable.insert(page.rawValue) }
    }
  }

  /// The pages were seen to be holes: the staged copies are the pages.
  package func pagesStaged(_ range: PageRange) {
    locked {
      books.staged.insert(range.lowerBound.rawValue..<range.upperBound.rawValue)
      for page in range { setRecord(table.record(of: page).moved(to: .staged), of: page) }
    }
  }

  /// The pages stay the guest's after all.
  package func punchUndone(_ range: PageRange) {
    locked {
      books.releasable.insert(range.lowerBound.rawValue..<range.upperBound.rawValue)
      for page in range { setRecord(table.record(of: page).moved(to: .guest), of: page) }
    }
  }

  // MARK: Trimming

  /// Takes the next staged pages, so many at most, each once since `restartLooks`.
  package func nextToTrim(before end: PageIndex, limit: Int) -> TrimLook {
    locked {
      var look = TrimLook()
      while look.count < limit,
        let run = books.staged.nextRun(from: books.lookCursor, before: end.rawValue, limit: limit - look.count)
      {
        for page in run {
          if books.zeroCopies.contains(page) {
            look.zero.append(PageIndex(page))
          } else if books.unseenCopies.contains(page) || table.record(of: PageIndex(page)).slotIsValid {
            look.addUnread(PageIndex(page))
          }
        }
        look.count += run.count
        books.lookCursor = run.upperBound
      }
      return look
    }
  }

  package func restartLooks() { locked { books.lookCursor = 0 } }

  /// A staged page was found to be zero: a hole in the guest says the same. To be called with the gate held for changing.
  ///
  /// - Returns: false when the page is not staged any more.
  package func dropZero(_ page: PageIndex) -> Bool {
    locked {
      let old = table.record(of: page)
      guard old.state == .staged else { return false }
      leave(page, old)
      setRecord(.guest, of: page)
      if let slot = old.validSlot { books.slots.free(slot) }
      return true
    }
  }

  /// A staged page was found to be what its slot holds. To be called with the gate held for changing.
  package func dropUnchanged(_ page: PageIndex) -> Bool {
    locked {
      let old = table.record(of: page)
      guard old.state == .staged, old.slotIsValid else { return false }
      leave(page, old)
      books.filePages += 1
      setRecord(old.moved(to: .file), of: page)
      return true
    }
  }

  // MARK: Writing out

  /// Takes the next staged pages at or behind `start`, and consecutive slots for them. What a page's old slot held is
  /// given up, because the page has changed (or trim would have dropped it).
  ///
  /// - Returns: nil when there is none. Otherwise to be ended by `writeDurable` or `writeFailed`.
  package func beginWrite(from start: PageIndex, limit: Int) -> WriteBatch? {
    locked {
      let pages = books.nextStagedPages(from: start.rawValue, limit: limit)
      guard !pages.isEmpty else { return nil }
      for page in pages {
        if let slot = table.record(of: page).validSlot {
          setRecord(PageRecord(.staged), of: page)
          books.slots.free(slot)
        }
      }
      // As many slots as pages exist, and a page holds one at most; only slots that are still being read can be missing.
      guard let slots = books.slots.allocateRun(upTo: pages.count) else { return nil }
      for (page, slot) in zip(pages, slots) {
        books.slots.setOwner(of: slot, to: page)
        setRecord(PageRecord(.staged, slot: slot), of: page)
      }
      return WriteBatch(pages: Array(pages.prefix(slots.count)), slots: slots)
    }
  }

  /// Whether the file's limit allows no further slot, for as long as no page gives one up.
  package var slotsAreUsedUp: Bool { locked { punching == nil && books.slots.areUsedUp } }

  /// Takes slots away from pages that are in the guest, which keep them for trim alone: to be called when slots are used up.
  ///
  /// - Parameter limit: slots looked at, at most.
  /// - Returns: false when all have been looked at once since it was last false.
  package func dropStaleSlots(limit: Int) -> Bool {
    locked {
      guard let run = books.slots.nextUsedRun(from: books.staleCursor, limit: limit) else {
        books.staleCursor = SwapSlot(0)
        return false
      }
      for slot in run where table.record(of: books.slots.owner(of: slot)).state == .guest {
        dropStale(slot, of: books.slots.owner(of: slot))
      }
      books.staleCursor = run.upperBound
      return true
    }
  }

  /// The batch is on disk. Pages that were touched or removed meanwhile are left alone, and their slots freed. To be
  /// called with the gate held for changing.
  ///
  /// - Returns: how many pages are in the file now.
  package func writeDurable(_ batch: WriteBatch, checksums: [PageChecksum]) -> Int {
    locked {
      var written = 0
      // The books change by runs of pages: twice as fast.
      var run = 0..<0
      for (number, (page, slot)) in zip(batch.pages, batch.slots).enumerated() {
        guard table.record(of: page) == PageRecord(.staged, slot: slot) else {
          books.slots.free(slot)
          continue
        }
        table.setChecksum(checksums[number], of: page)
        table.setRecord(PageRecord(.file, slot: slot, slotIsValid: true), of: page)
        if page.rawValue != run.upperBound {
          leaveStaging(run)
          run = page.rawValue..<page.rawValue
        }
        run = run.lowerBound..<(page.rawValue + 1)
        written += 1
      }
      leaveStaging(run)
      books.filePages += written
      return written
    }
  }

  /// The batch is not on disk: its pages stay in staging.
  package func writeFailed(_ batch: WriteBatch) {
    locked {
      for (page, slot) in zip(batch.pages, batch.slots) {
        if table.record(of: page) == PageRecord(.staged, slot: slot) { setRecord(PageRecord(.staged), of: page) }
        books.slots.free(slot)
      }
    }
  }

  // MARK: Giving the disk its space back

  /// Slots that hold something that nobody needs.
  package var wastedSlots: Int { locked { books.isOpen ? books.slots.punchableCount : leftover } }

  /// The file has been emptied.
  package func fileEmptied() { locked { leftover = 0 } }

  /// The next slots to be punched; one run at a time, until `endPunch`.
  package func beginPunch(limit: Int) -> SlotRange? {
    locked {
      if books.isOpen {
        punching = books.slots.beginPunch(limit: limit)
      } else if leftover > 0 {
        let start = max(0, leftover - limit)
        punching = SwapSlot(start)..<SwapSlot(leftover)
        leftover = start
      } else {
        punching = nil
      }
      return punching
    }
  }

  /// - Parameter isDone: whether the disk has its space back; else it is to be tried again.
  package func endPunch(isDone: Bool) {
    locked {
      guard let run = punching else { return }
      punching = nil
      if books.isOpen {
        books.slots.endPunch(run, isDone: isDone)
      } else if !isDone {
        leftover = max(leftover, run.upperBound.rawValue)
      }
    }
  }

  // MARK: Giving staging memory back

  /// Takes the next staged copies that nobody needs: as far as no needed one lies between, however many pages have none, so
  /// that scattered ones are given back together. To be called with the gate held for releasing, and the memory given
  /// back before it is let go: a move into the same pages can't come between.
  package func takeReleasable(limit: Int) -> PageRange? {
    locked {
      guard books.releasable.count > 0 else { return nil }
      // Round and round, so that looking for a run does not begin anew each time.
      guard
        let run = nextReleasable(from: books.releaseCursor, limit: limit)
          ?? nextReleasable(from: 0, limit: limit)
      else { return nil }
      books.releaseCursor = run.upperBound
      books.releasable.remove(run)
      return PageIndex(run.lowerBound)..<PageIndex(run.upperBound)
    }
  }

  /// Their memory could not be given back, and is to be: what was taken, in the same hold of the gate. (What lies in between
  /// has no copy, and loses nothing.)
  package func releaseFailed(_ run: PageRange) {
    locked { books.releasable.insert(run.lowerBound.rawValue..<run.upperBound.rawValue) }
  }

  /// - Returns: false where it is somebody else's turn to give copies back, and no more than `pages` wait for that. After true,
  ///   `endReleaseTurn` is to be called.
  package func takeReleaseTurn(unlessMoreThan pages: Int) -> Bool {
    locked {
      guard books.releasers == 0 || books.releasable.count > pages else { return false }
      books.releasers += 1
      return true
    }
  }

  package func endReleaseTurn() { locked { books.releasers -= 1 } }

  private func nextReleasable(from start: Int, limit: Int) -> Range<Int>? {
    guard let first = books.releasable.nextMember(from: start) else { return nil }
    let bound = min(books.staged.nextMember(from: first) ?? pageCount, first + limit)
    var end = first
    while let next = books.releasable.nextMember(from: end), next < bound, !hasPunching(end..<next) {
      end = min(books.releasable.nextGap(from: next) ?? pageCount, bound)
    }
    return first..<end
  }

  private func hasPunching(_ range: Range<Int>) -> Bool {
    var position = range.lowerBound
    while let found = books.recorded.nextMember(from: position), found < range.upperBound {
      if table.record(of: PageIndex(found)).state == .punching { return true }
      position = found + 1
    }
    return false
  }
}
