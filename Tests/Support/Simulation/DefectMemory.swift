import Domain

/// What planted bugs remember of the guest memory.
struct DefectMemory {
  /// Which pages had data before they were protected.
  private(set) var earlyListing: [PageIndex: Bool] = [:]
  /// Pages whose removal was announced, and that have not been holes since.
  var announced: Set<PageIndex> = []
  private var earlyContents: [PageIndex: UInt64] = [:]
  private var onceZero: Set<PageIndex> = []
  /// What a punch left, and when it will be put back.
  fileprivate var repairs: [(page: PageIndex, content: UInt64, due: UInt64)] = []

  /// - Parameter isZero: whether its copy is zeros now.
  mutating func wasZero(_ page: PageIndex, now isZero: Bool) -> Bool {
    if isZero { onceZero.insert(page) }
    return onceZero.contains(page)
  }

  func earlyContent(of page: PageIndex) -> UInt64? { earlyContents.isEmpty ? nil : earlyContents[page] }

  mutating func forgetListing(of pages: PageRange) {
    if !earlyListing.isEmpty { for page in pages { earlyListing[page] = nil } }
  }

  mutating func forgetEarlyLook(at pages: PageRange) {
    forgetListing(of: pages)
    earlyContents.removeAll()
  }

  fileprivate mutating func list(_ pages: PageRange, _ guest: [UInt64?]) {
    for page in pages { earlyListing[page] = guest[page.rawValue] != nil }
  }

  fileprivate mutating func read(_ pages: PageRange, _ guest: [UInt64?]) {
    for page in pages { earlyContents[page] = guest[page.rawValue] ?? 0 }
  }
}

/// Planted bugs around moves.
extension SimulatedKernel {
  private static var longNanoseconds: UInt64 { 20_000 }

  func lookEarly(at pages: PageRange) {
    if defect == .extentsAreListedBeforeProtection { return memory.list(pages, guest) }
    if memory.earlyContent(of: pages.lowerBound) != nil { return }
    memory.read(pages, guest)
    scheduler.sleep(Self.longNanoseconds)
  }

  func dropProtection(_ pages: PageRange) {
    for process in processes { process.endProtection(of: pages) }
    scheduler.sleep(Self.longNanoseconds)
  }

  func copyAgain(_ pages: PageRange) {
    for page in pages where staging[page.rawValue] != nil { staging[page.rawValue] = guest[page.rawValue] ?? 0 }
  }

  func wholeHugePages(around pages: PageRange) -> PageRange {
    guard let last = pages.last else { return pages }
    let windows = MoveWindows(region: map.regions[map.regionIndex(of: last)], geometry: map.geometry)
    return windows.window(containing: pages.lowerBound).lowerBound..<windows.window(containing: last).upperBound
  }

  func postponeRepair(of pages: PageRange) {
    for page in pages {
      memory.repairs.append((page, readStaging(page), scheduler.now + 10 * Self.longNanoseconds))
    }
  }

  func repairLate() {
    for repair in memory.repairs where repair.due <= scheduler.now { guest[repair.page.rawValue] = repair.content }
    memory.repairs.removeAll { $0.due <= scheduler.now }
  }
}
