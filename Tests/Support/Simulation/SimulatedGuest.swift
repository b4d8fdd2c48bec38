package import Domain

package struct SimulatedGuest: GuestMemory {
  let kernel: SimulatedKernel

  package func firstData(in range: PageRange) throws(PortFailure) -> PageIndex? {
    if kernel.defect == .extentsAreListedBeforeProtection { kernel.lookEarly(at: range) }
    return try nextData(in: range)?.lowerBound
  }

  package func nextData(in range: PageRange) throws(PortFailure) -> PageRange? {
    kernel.enter("guest.nextData(\(range.text))")
    kernel.checkOneRegion(range, "nextData")
    try kernel.mayFail(.findGuestData, ErrorNumber.inputOutput)
    if kernel.defect == .extentsAreFoundByTouching, let hole = range.first(where: { kernel.guest[$0.rawValue] == nil })
    {
      kernel.guest[hole.rawValue] = 0
    }
    guard let first = range.first(where: isData) else { return nil }
    return first..<(PageIndex.firstNot(in: first..<range.upperBound, isData) ?? range.upperBound)
  }

  package func copyToStaging(_ pages: PageRange) throws(PortFailure) -> [PageIndex] {
    kernel.enter("guest.copyToStaging(\(pages.text))")
    kernel.checkOneRegion(pages, "copyToStaging")
    kernel.perhapsStraySignal()
    kernel.reservedPages = (kernel.reservedPages ?? 0) - pages.count
    if kernel.reservedPages ?? -1 < 0 { kernel.fail("\(pages.text) is copied, and no room was reserved") }
    kernel.memory.forgetListing(of: pages)
    let failing = kernel.injector.failure(among: [ErrorNumber.noMemory, ErrorNumber.inputOutput])
    let end = failing == nil ? pages.count : kernel.random.below(pages.count)
    if kernel.defect == .copiesAreRecordedEarly { kernel.earlyPunching = pages }
    defer { kernel.earlyPunching = nil }
    for page in pages.prefix(end) {
      // pread from a hole: zeros, and no filling
      kernel.staging[page.rawValue] = kernel.memory.earlyContent(of: page) ?? kernel.guest[page.rawValue] ?? 0
      kernel.perhapsYield()
    }
    kernel.perhapsTakeLong()
    if let failing { throw PortFailure(.writeStaging, errorNumber: failing) }
    return pages.filter { page in
      let isZero = kernel.staging[page.rawValue] == 0
      return kernel.defect == .zerosAreRemembered ? kernel.memory.wasZero(page, now: isZero) : isZero
    }
  }

  package func punch(_ pages: PageRange) throws(PortFailure) {
    kernel.enter("guest.punch(\(pages.text))")
    kernel.checkOneRegion(pages, "punch")
    if kernel.defect == .protectionEndsAtPunch { kernel.dropProtection(pages) }
    defer { if kernel.defect == .copiesComeLate { kernel.copyAgain(pages) } }
    if let number = kernel.injector.failure(among: [ErrorNumber.noMemory, ErrorNumber.inputOutput]) {
      kernel.punchPages(pages.lowerBound..<(pages.lowerBound + kernel.random.below(pages.count)))
      throw PortFailure(.punchGuestMemory, errorNumber: number)
    }
    switch kernel.defect {
    case .punchesAreInPieces, .livePunchesAreInPieces: for page in pages { kernel.punchPages(page..<(page + 1)) }
    case .punchesTakeTenantsPages: kernel.punchPages(kernel.wholeHugePages(around: pages))
    default: kernel.punchPages(pages)
    }
  }

  package func restore(_ pages: PageRange, from source: PageSource<SimulatedBuffer>) throws(PortFailure) {
    kernel.enter("guest.restore(\(pages.text))")
    if KnownTrouble.repairMayFail { try kernel.mayFail(.restoreGuestMemory, ErrorNumber.inputOutput) }
    if kernel.defect == .repairsAreSkipped { return }
    if kernel.defect == .repairsComeLate, case .staging = source { return kernel.postponeRepair(of: pages) }
    for (number, page) in pages.enumerated() {
      switch source {
      case .staging: kernel.guest[page.rawValue] = kernel.readStaging(page)
      case .buffer(let buffer, let index): kernel.guest[page.rawValue] = buffer[index + number]
      }
      kernel.zeroedInPlace.remove(page)
    }
  }

  private func isData(_ page: PageIndex) -> Bool {
    let isThere = kernel.guest[page.rawValue] != nil
    switch kernel.defect {
    case .leftDataLooksLikeHole, .punchesAreInPieces: return isThere && !kernel.zeroedInPlace.contains(page)
    case .removesCountAsHoles: return isThere && !kernel.memory.announced.contains(page)
    case .extentsAreListedBeforeProtection: return kernel.memory.earlyListing[page] ?? isThere
    default: return isThere
    }
  }
}

extension PageIndex {
  static func firstNot(in range: PageRange, _ predicate: (PageIndex) -> Bool) -> PageIndex? {
    range.first { !predicate($0) }
  }
}

extension PageRange {
  var text: String { "\(lowerBound.rawValue)..<\(upperBound.rawValue)" }
}
