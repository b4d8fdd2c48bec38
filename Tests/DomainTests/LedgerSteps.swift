import Domain
import TestSupport

/// The steps that services take, in any order that the gate allows.
extension LedgerDriver {
  mutating func step(_ choices: inout Choices) throws {
    switch choices.int(below: 12) {
    case 0: tenantWrites(&choices)
    case 1, 2: try move(&choices)
    case 3: try fault(&choices)
    case 4: if choices.chance(oneIn: 2) { try returnStaged(&choices) } else { try returnMasked(&choices) }
    case 5: discard(&choices)
    case 6: settle(&choices)
    case 7: try trim(&choices)
    case 8: try beginWrite(&choices)
    case 9:
      if !writes.isEmpty {
        try endWrite(choices.int(below: writes.count), isDurable: !choices.chance(oneIn: 4), &choices)
      }
    case 10: if choices.chance(oneIn: 2) || reads.isEmpty { try readAhead(&choices) } else { try endRead(&choices) }
    default: try release(limit: choices.int(in: 1...pages.count), &choices)
    }
    try check()
  }

  mutating func tenantWrites(_ choices: inout Choices) {
    let page = choices.int(below: pages.count)
    guard pages[page].state == .guest else { return }
    pages[page].content = choices.chance(oneIn: 3) ? 0 : freshContent()
    choices.note("the tenant writes \(pages[page].content) to page \(page)")
  }

  // MARK: Moving

  mutating func move(_ choices: inout Choices) throws {
    let range = choices.range(below: pages.count)
    var position = range.lowerBound
    while let run = nextRun(from: position, before: range.upperBound, limit: .max, \.isMovable) {
      let movable = ledger.nextMovable(in: Self.range(position..<range.upperBound)).map(Self.raw)
      try requireEqual(movable, run, "movable pages from \(position)")
      position = run.upperBound
      var start = run.lowerBound
      for page in run where !hasData(page, &choices) {
        try movePiece(start..<page, &choices)
        start = page + 1
      }
      try movePiece(start..<run.upperBound, &choices)
    }
    try requireEqual(ledger.nextMovable(in: Self.range(position..<range.upperBound)), nil, "movable pages in the end")
  }

  /// Data in the memfd where the record says otherwise is the guest's own (another process's copy came first).
  private mutating func hasData(_ page: Int, _ choices: inout Choices) -> Bool {
    if pages[page].state == .guest { return true }
    guard choices.chance(oneIn: 8) else { return false }
    guestWrote(page)
    return true
  }

  private mutating func movePiece(_ piece: Range<Int>, _ choices: inout Choices) throws {
    guard !piece.isEmpty else { return }
    for page in piece { pages[page].staging = pages[page].content }
    // Not where a page is in the file or on its way there: no model of one content per page has the guest's own
    // beside it.
    if choices.chance(oneIn: 8), piece.allSatisfy({ !pages[$0].isInFile && pages[$0].writing == nil }) {
      choices.note("pages \(piece) are copied, and the copies abandoned")
      ledger.copyAbandoned(Self.range(piece))
      for page in piece { pages[page].isSeen = false }
      for page in piece where pages[page].state != .staged { pages[page].isReleasable = true }
      return
    }
    choices.note("pages \(piece) are punched")
    ledger.pagesPunching(Self.range(piece), zero: piece.filter { pages[$0].staging == 0 }.map { PageIndex($0) })
    for page in piece {
      leave(page)
      pages[page].state = .punching
      pages[page].isReleasable = false
      pages[page].isSeen = true
    }
    try check()
    let cut = choices.chance(oneIn: 3) ? choices.int(in: piece.lowerBound...piece.upperBound) : piece.upperBound
    ledger.pagesStaged(Self.range(piece.lowerBound..<cut))
    for page in piece.lowerBound..<cut { pages[page].state = .staged }
    guard cut < piece.upperBound else { return }
    choices.note("pages \(cut..<piece.upperBound) are left behind by the punch")
    ledger.punchUndone(Self.range(cut..<piece.upperBound))
    for page in cut..<piece.upperBound { returned(page) }
  }

  // MARK: Coming back

  mutating func fault(_ choices: inout Choices) throws {
    let page = choices.int(below: pages.count)
    let index = PageIndex(page)
    // Another process may have brought the page back, and written to it.
    let isRedundant = choices.chance(oneIn: 5)
    choices.note("fault at page \(page)\(isRedundant ? ", which is there already" : "")")
    switch pages[page].state {
    case .guest:
      try requireEqual(ledger.pinForRead(index), nil, "pinned slot of a page in the guest")
      faults.count(isRedundant ? .redundant : .zero)
      // Only zeros that were installed show that the removal was carried out.
      if isRedundant { return ledger.faultWasRedundant() }
      ledger.zeroInstalled(index)
      pages[page].isDiscarding = false
    case .staged:
      try requireEqual(ledger.pinForRead(index), nil, "pinned slot of a staged page")
      if isRedundant { guestWrote(page) }
      ledger.pagesReturned(index..<(index + 1), faultFrom: isRedundant ? .redundant : .staging)
      faults.count(isRedundant ? .redundant : .staging)
      returned(page)
    case .file:
      let slot = try unwrap(ledger.pinForRead(index), "slot of a page in the file")
      try requireEqual(slot.rawValue, pages[page].slot, "slot to read")
      reads.append((slot..<(slot + 1), [slot]))
    case .unreadable: try requireEqual(ledger.pinForRead(index), nil, "pinned slot of an unreadable page")
    case .punching: throw Mismatch("a page stays in punching")
    }
  }

  mutating func returnStaged(_ choices: inout Choices) throws {
    let (range, limit) = (choices.range(below: pages.count), choices.int(in: 1...20))
    let run = ledger.nextStaged(from: PageIndex(range.lowerBound), before: PageIndex(range.upperBound), limit: limit)
    let expected = nextRun(from: range.lowerBound, before: range.upperBound, limit: limit) { $0.state == .staged }
    try requireEqual(run.map(Self.raw), expected, "staged pages in \(range), limit \(limit)")
    try checkMask(in: range)
    guard let run, let expected else { return }
    choices.note("staged pages \(expected) come back")
    ledger.pagesReturned(run)
    for page in expected { returned(page) }
  }

  /// Some of 64 pages come back together, and others among them may be the guest's by then.
  mutating func returnMasked(_ choices: inout Choices) throws {
    let range = choices.range(below: pages.count)
    try checkMask(in: range)
    guard var staged = ledger.nextStagedMask(from: PageIndex(range.lowerBound), before: PageIndex(range.upperBound))
    else { return }
    var returned = PageMask(start: staged.start)
    var numbers: [Int] = []
    while let run = staged.popRun() {
      let part = run.prefix(choices.int(in: 0...run.count))
      returned.insert(part)
      numbers += part.map(\.rawValue)
    }
    choices.note("staged pages \(numbers) come back together")
    if let first = numbers.first, choices.chance(oneIn: 2) {
      ledger.pagesReturned(PageIndex(first)..<PageIndex(first + 1), faultFrom: .staging)
      faults.count(.staging)
    }
    ledger.pagesReturned(returned)
    for page in numbers { self.returned(page) }
  }

  private func checkMask(in range: Range<Int>) throws {
    var mask = ledger.nextStagedMask(from: PageIndex(range.lowerBound), before: PageIndex(range.upperBound))
    let first = range.first { pages[$0].state == .staged }
    try requireEqual(mask?.start.rawValue, first, "the first staged page in \(range)")
    var found: [Int] = []
    while let run = mask?.popRun() { found += run.map(\.rawValue) }
    let expected = first.map { ($0..<min($0 + 64, range.upperBound)).filter { pages[$0].state == .staged } } ?? []
    try requireEqual(found, expected, "staged pages in \(range), 64 at most")
  }

  mutating func readAhead(_ choices: inout Choices) throws {
    let (start, limit) = (choices.int(in: 0...pages.count), choices.int(in: 1...40))
    let wanted = pages.filter(\.isInFile).compactMap(\.slot).filter { $0 >= start }.sorted()
    let run = ledger.pinNextFileRun(from: SwapSlot(start), limit: limit)
    guard let first = wanted.first else { return try requireEqual(run, nil, "run in the file from slot \(start)") }
    var pieces: [Range<Int>] = []
    for slot in wanted where slot - first < limit {
      let last = pieces.last?.upperBound ?? slot
      if slot - last > FileRun.longestGap { break }
      if let piece = pieces.last, slot == last {
        pieces[pieces.count - 1] = piece.lowerBound..<(slot + 1)
      } else {
        pieces.append(slot..<(slot + 1))
      }
    }
    try requireEqual(
      run.map { $0.pieces.map { $0.lowerBound.rawValue..<$0.upperBound.rawValue } }, pieces,
      "run in the file from slot \(start), limit \(limit)")
    choices.note("slots \(pieces) are read ahead")
    // What was read of the gaps is nobody's business, whoever has those slots by the time that the read ends.
    if let run { reads.append((run.slots, run.pieces.flatMap { Array($0) })) }
  }

  mutating func endRead(_ choices: inout Choices) throws {
    let (pinned, slots) = reads.remove(at: choices.int(below: reads.count))
    let isRight = !choices.chance(oneIn: 4)
    choices.note("\(slots) are read\(isRight ? "" : ", and wrong")")
    try checkNextInFile(pinned)
    for slot in slots {
      let page = ledger.owner(of: slot)
      let record = ledger.record(of: page)
      let isStill = record.slot == slot && (record.state == .file || record.state == .unreadable)
      let expected = pages.firstIndex { $0.slot == slot.rawValue && $0.isInFile }
      try requireEqual(isStill ? page.rawValue : nil, expected, "page to bring back from \(slot)")
      if !isRight {
        try requireEqual(ledger.pageUnreadable(page, slot: slot), isStill, "\(page) is unreadable")
        if isStill {
          pages[page.rawValue].state = .unreadable
          pages[page.rawValue].isUnhealed = false
        } else if pages[page.rawValue].slot == slot.rawValue {
          pages[page.rawValue].slot = nil  // a slot that was read wrong is not kept for trimming
        }
      } else if isStill {
        ledger.pagesReturned(page..<(page + 1), faultFrom: .file)
        faults.count(.file)
        returned(page.rawValue)
      }
    }
    ledger.unpin(pinned)
  }

  private func checkNextInFile(_ slots: SlotRange) throws {
    func page(in slot: SwapSlot) -> Int? { pages.firstIndex { $0.slot == slot.rawValue && $0.isInFile } }
    let first = slots.first { page(in: $0) != nil }
    let found = ledger.nextInFile(slots)
    try requireEqual(found?.first, first, "the first of \(slots) whose page is in the file")
    guard let first, let found else { return }
    let followers = (first..<slots.upperBound).enumerated().prefix { page(in: $1) == (page(in: first) ?? 0) + $0 }
    try requireEqual(found.pages.map(\.rawValue), followers.compactMap { page(in: $1) }, "pages that follow each other")
  }

  // MARK: Removed

  mutating func discard(_ choices: inout Choices) {
    let range = choices.range(below: pages.count)
    choices.note("pages \(range) are removed")
    ledger.discard(Self.range(range))
    faults.removed += range.count
    for page in range {
      returned(page)
      pages[page].slot = nil
      pages[page].content = 0
      pages[page].isDiscarding = true
    }
  }

  mutating func settle(_ choices: inout Choices) {
    let isAll = choices.chance(oneIn: 3)
    let range = isAll ? pages.indices : choices.range(below: pages.count)
    choices.note("removes of \(range) are settled")
    if isAll { ledger.settleAllDiscards() } else { ledger.settleDiscards(Self.range(range)) }
    for page in range { pages[page].isDiscarding = false }
    if choices.chance(oneIn: 2), let page = ledger.nextUnhealed {
      choices.note("\(page) is healed")
      ledger.pageHealed(page)
      pages[page.rawValue].isUnhealed = false
    }
  }

  // MARK: Trimming and writing

  mutating func trim(_ choices: inout Choices) throws {
    try checkNextToTrim(&choices)
    for page in choices.range(below: pages.count, longest: 12) { try trim(page, &choices) }
  }

  private func checkNextToTrim(_ choices: inout Choices) throws {
    let (end, limit) = (choices.int(in: 0...pages.count), choices.int(in: 1...20))
    let staged = (0..<end).filter { pages[$0].state == .staged }.prefix(limit)
    ledger.restartLooks()
    let look = ledger.nextToTrim(before: PageIndex(end), limit: limit)
    try requireEqual(look.count, staged.count, "pages to trim before \(end), limit \(limit)")
    let zero = staged.filter { pages[$0].isSeen && pages[$0].staging == 0 }
    try requireEqual(look.zero.map(\.rawValue), zero, "copies known to be zeros")
    let unread = staged.filter { page in
      let page = pages[page]
      return !page.isSeen || page.staging != 0 && page.slot != nil && page.writing == nil
    }
    try requireEqual(look.unread.flatMap { Array(Self.raw($0)) }, unread, "copies to be read")
    for (run, next) in zip(look.unread, look.unread.dropFirst()) {
      try require(run.upperBound < next.lowerBound, "\(run) and \(next) are one run")
    }
  }

  private mutating func trim(_ page: Int, _ choices: inout Choices) throws {
    let index = PageIndex(page)
    let isStaged = pages[page].state == .staged
    if !isStaged || pages[page].content == 0 {
      choices.note("page \(page) is found zero")
      // What is not staged any more reads as zero too.
      try requireEqual(ledger.dropZero(index), isStaged, "drop of zero page \(page)")
      if isStaged {
        returned(page)
        pages[page].slot = nil
      }
    } else if ledger.checksum(of: index) == Self.checksum(pages[page].content) || pages[page].slot == nil {
      choices.note("page \(page) is found unchanged")
      let isUnchanged = pages[page].slot != nil
      try requireEqual(ledger.dropUnchanged(index), isUnchanged, "drop of unchanged page \(page)")
      guard isUnchanged else { return }
      leave(page)
      pages[page].state = .file
    }
  }

  mutating func beginWrite(_ choices: inout Choices) throws {
    let (start, limit) = (choices.int(below: pages.count), choices.int(in: 1...20))
    // Two at a time: the services take one, and the ledger does not depend on it.
    guard writes.count < 2 else { return }
    let wanted = (start..<pages.count).filter { pages[$0].state == .staged }.prefix(limit)
    let batch = ledger.beginWrite(from: PageIndex(start), limit: limit)
    for page in wanted {
      // A valid slot is given up; one that another write has in hand stays that write's.
      pages[page].slot = nil
    }
    let inUse = slotsInUse
    guard let batch else {
      // What is read along, and given up meanwhile, is kept as well.
      let kept = reads.reduce(into: inUse) { $0.formUnion($1.pinned.map(\.rawValue)) }
      return try require(wanted.isEmpty || kept.count == pages.count, "no batch, though \(wanted) and slots are there")
    }
    choices.note("pages \(batch.pages.map(\.rawValue)) are written to slots \(batch.slots)")
    try require(!batch.pages.isEmpty && batch.pages.count == batch.slots.count, "pages and slots do not match")
    try requireEqual(batch.pages.map(\.rawValue), Array(wanted.prefix(batch.pages.count)), "pages to write")
    for (page, slot) in zip(batch.pages, batch.slots) {
      try require(!inUse.contains(slot.rawValue), "\(slot) is handed out while it is in use")
      pages[page.rawValue].writing = slot.rawValue
      disk[slot.rawValue] = nil
    }
    writes.append((batch, batch.pages.map { pages[$0.rawValue].content }))
  }

  mutating func endWrite(_ number: Int, isDurable: Bool, _ choices: inout Choices) throws {
    let (batch, contents) = writes.remove(at: number)
    choices.note("the write to slots \(batch.slots) \(isDurable ? "is durable" : "fails")")
    var written = 0
    for (position, (index, slot)) in zip(batch.pages, batch.slots).enumerated() {
      let page = index.rawValue
      if isDurable { disk[slot.rawValue] = contents[position] }
      if pages[page].writing != slot.rawValue { continue }
      pages[page].writing = nil
      guard isDurable else { continue }
      leave(page)
      pages[page].state = .file
      pages[page].slot = slot.rawValue
      written += 1
    }
    guard isDurable else { return ledger.writeFailed(batch) }
    try requireEqual(ledger.writeDurable(batch, checksums: contents.map(Self.checksum)), written, "written pages")
  }

  mutating func release(limit: Int, _ choices: inout Choices) throws {
    let run = ledger.takeReleasable(limit: limit).map(Self.raw)
    // Any run will do; but none only where there is none. It goes on over pages that have no copy.
    let first = nextRun(from: run?.lowerBound ?? 0, before: pages.count, limit: limit, \.isReleasable)
    try requireEqual(run?.lowerBound, first?.lowerBound, "copies to give back")
    guard let run else { return }
    let bound = min(run.lowerBound + limit, pages.count)
    let needed = (run.lowerBound..<bound).first { pages[$0].state == .staged || pages[$0].state == .punching } ?? bound
    let end = (run.lowerBound..<needed).last { pages[$0].isReleasable }.map { $0 + 1 }
    try requireEqual(run.upperBound, end, "the end of the copies to give back")
    choices.note("staged copies \(run) are given back")
    for page in run {
      try require(pages[page].state != .staged && pages[page].state != .punching, "page \(page) loses its only copy")
      pages[page].staging = nil
      pages[page].isReleasable = false
    }
  }
}
