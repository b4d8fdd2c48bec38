package import Domain
internal import Glibc
internal import Synchronization

/// Guest memory of the demo's and the benchmark's tenants: a memfd, mapped shared, whose pages hold what their number, a seed
/// and a version say.
/// So every byte can be checked later without a second copy.
package final class PatternMemory: @unchecked Sendable {
  // `versions` belongs to the thread that writes; see `increment`
  package enum Kind: UInt64, CaseIterable, Sendable {
    case random, text, zero
  }

  /// What is asked of the kernel: whole huge pages, or none.
  package enum Advice: String {
    case huge, small
  }

  package let file: Descriptor
  package let pageCount: Int
  package var address: UInt64 { UInt64(UInt(bitPattern: view.address)) }
  package var bytes: Int { view.count }
  private let view: AlignedView
  private let geometry: PageGeometry
  private let seed: UInt64
  private let zeroRun: Int?
  /// How often each page was written after it was filled.
  private var versions: [UInt32]

  /// - Parameters:
  ///   - zeroRun: zero pages come in runs of so many, and there is no text; nil mixes all kinds page by page.
  ///   - advice: nil leaves it to the kernel.
  package init(
    pageCount: Int, geometry: PageGeometry, seed: UInt64, zeroRun: Int? = nil, advice: Advice? = nil
  ) throws(SystemError) {
    let bytes = geometry.bytes(inPages: pageCount)
    file = try Self.makeFile(bytes: bytes)
    view = try AlignedView(of: file, bytes: bytes, geometry: geometry)
    if let advice { madvise(view.address, bytes, advice == .huge ? Self.MADV_HUGEPAGE : Self.MADV_NOHUGEPAGE) }
    self.pageCount = pageCount
    self.geometry = geometry
    self.seed = seed
    self.zeroRun = zeroRun
    versions = [UInt32](repeating: 0, count: pageCount)
  }

  /// A memfd as a virtual machine monitor would make it.
  package static func makeFile(bytes: Int) throws(SystemError) -> Descriptor {
    let flags = UInt32(MFD_CLOEXEC) | UInt32(MFD_ALLOW_SEALING)
    let file = Descriptor(owning: try checked("memfd_create") { memfd_create("swap-monitor-demo", flags) })
    try checked("sizing the guest memory") { ftruncate(file.raw, bytes) }
    try checked("sealing the guest memory") { fcntl(file.raw, F_ADD_SEALS, F_SEAL_SHRINK) }
    return file
  }

  /// A quarter of the pages are zero, a quarter text-like where there is text, the others random.
  package func kind(of page: Int) -> Kind {
    switch SplitMix.mix(seed ^ UInt64(page / (zeroRun ?? 1))) & 3 {
    case 0: .zero
    case 1 where zeroRun == nil: .text
    default: .random
    }
  }

  package func fill(_ pages: Range<Int>) {
    for page in pages where kind(of: page) != .zero {
      versions[page] = 0
      expect(page, into: words(page))
    }
    fillZeros(pages)
  }

  /// Zero pages are written too: they hold memory until trim finds them.
  package func fillZeros(_ pages: Range<Int>) {
    for page in pages where kind(of: page) == .zero { words(page)[0] = 0 }
  }

  /// Removes pages as a guest does that needs them no more.
  package func remove(_ pages: Range<Int>) throws(SystemError) {
    let (start, bytes) = (words(pages.lowerBound), geometry.bytes(inPages: pages.count))
    try checked("madvise(MADV_REMOVE)") { madvise(start, bytes, MADV_REMOVE) }
  }

  /// Asks the kernel to swap everything out.
  package func pageOut() throws(SystemError) {
    try checked("madvise(MADV_PAGEOUT)") { madvise(view.address, view.count, Self.MADV_PAGEOUT) }
  }

  private static let MADV_HUGEPAGE: Int32 = 14
  private static let MADV_NOHUGEPAGE: Int32 = 15
  private static let MADV_PAGEOUT: Int32 = 21
  private static let MADV_COLLAPSE: Int32 = 25

  /// Asks the kernel to make huge pages of what is there, whatever the machine's setting; in vain where it can't.
  package func collapse() { madvise(view.address, view.count, Self.MADV_COLLAPSE) }

  /// How many of the huge pages are whole: the kernel maps these by one entry where they are mapped anew.
  package func wholeHugePages() throws(SystemError) -> Int {
    let view = try AlignedView(of: file, bytes: bytes, geometry: geometry)
    madvise(view.address, view.count, Self.MADV_HUGEPAGE)
    for page in stride(from: 0, to: pageCount, by: geometry.hugePagePages) {
      sink.store(words(page, in: view)[Self.touchedWord], ordering: .relaxed)
    }
    let start = String(UInt(bitPattern: view.address), radix: 16)
    let mapping = readText("/proc/self/smaps", limit: 1 << 24)?.split(separator: "\n").drop {
      !$0.hasPrefix("\(start)-")
    }
    let line = mapping?.first { $0.hasPrefix("ShmemPmdMapped:") }
    return (line.flatMap { Int($0.filter(\.isNumber)) } ?? 0) << 10 / geometry.bytes(inPages: geometry.hugePagePages)
  }

  /// Which pages have data, by the kernel's word, without touching any.
  package func resident() throws(SystemError) -> [Bool] {
    var vector = [UInt8](repeating: 0, count: pageCount)
    try checked("mincore") { mincore(view.address, view.count, &vector) }
    return vector.map { $0 & 1 == 1 }
  }

  /// Reads one word of a page, as a guest would.
  ///
  /// - Returns: how long it took, in nanoseconds.
  package func touch(_ page: Int) -> UInt64 {
    let clock = SystemClock()
    let start = clock.nowNanoseconds
    let word = words(page)[Self.touchedWord]
    let end = clock.nowNanoseconds
    sink.store(word, ordering: .relaxed)
    return end - start
  }

  /// Changes one word of a page, in a way that `mismatches` knows of. One thread only.
  package func increment(_ page: Int) {
    versions[page] &+= 1
    words(page)[Self.versionWord] &+= 1
  }

  /// Compares pages with what was written, byte by byte.
  ///
  /// - Returns: how many pages differ.
  package func mismatches(in pages: Range<Int>) -> Int {
    let expected = UnsafeMutablePointer<UInt64>.allocate(capacity: geometry.pageBytes / 8)
    defer { expected.deallocate() }
    var wrong = 0
    for page in pages {
      expect(page, into: expected)
      expected[Self.versionWord] &+= UInt64(versions[page])
      if memcmp(expected, words(page), geometry.pageBytes) != 0 { wrong += 1 }
    }
    return wrong
  }

  private static let touchedWord = 8
  private static let versionWord = 3
  private let sink = Atomic<UInt64>(0)

  private static let vocabulary: [UInt64] = [
    "the page ", "memory, ", "machine ", "returns.", " of idle", "virtual ", " a fault", "\n- swap: ",
  ].map { word in word.utf8.prefix(8).reduce(0) { $0 << 8 | UInt64($1) } }

  private func expect(_ page: Int, into words: UnsafeMutablePointer<UInt64>) {
    let count = geometry.pageBytes / 8
    var random = RandomSequence(seed: SplitMix.mix(seed &+ 1 ^ UInt64(page)))
    switch kind(of: page) {
    case .zero: memset(words, 0, geometry.pageBytes)
    case .random:
      for index in 0..<count { words[index] = random.next() }
    case .text:
      for index in 0..<count { words[index] = Self.vocabulary[Int(random.next() & 7)] }
      words[0] = UInt64(page)
    }
  }

  private func words(_ page: Int, in view: AlignedView? = nil) -> UnsafeMutablePointer<UInt64> {
    // Safety: a page of the mapping, page aligned.
    ((view ?? self.view).address + geometry.bytes(inPages: page)).assumingMemoryBound(to: UInt64.self)
  }
}

/// A file that is mapped where huge pages can be.
private final class AlignedView: Sendable {
  /// What lies around it, too.
  private let reservation: MemoryMapping
  nonisolated(unsafe) let address: UnsafeMutableRawPointer
  let count: Int

  init(of file: Descriptor, bytes: Int, geometry: PageGeometry) throws(SystemError) {
    let alignment = geometry.bytes(inPages: geometry.hugePagePages)
    let reservation = try MemoryMapping(
      anonymousBytes: bytes + alignment, operation: "looking for room for the guest memory")
    let place = reservation.address.alignedUp(toMultipleOf: alignment)
    // Safety: over a part of the reservation, which nobody uses otherwise, and goes with it.
    let mapped = mmap(place, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file.raw, 0)
    guard mapped != MAP_FAILED else { throw SystemError("mapping the guest memory", errorNumber: errno) }
    madvise(place, bytes, MADV_DONTDUMP)
    (self.reservation, address, count) = (reservation, place, bytes)
  }
}

/// Well mixed numbers that depend on a seed alone.
package struct RandomSequence: Sendable {
  private var state: UInt64

  package init(seed: UInt64) { state = seed }

  @inline(__always)
  package mutating func next() -> UInt64 {
    state &+= SplitMix.increment
    return SplitMix.mix(state)
  }

  /// Below a bound.
  package mutating func next(_ bound: UInt64) -> UInt64 { next() % bound }
}

/// Sebastiano Vigna's splitmix64: a small, fast sequence of well mixed words.
package enum SplitMix {
  fileprivate static let increment: UInt64 = 0x9E37_79B9_7F4A_7C15

  package static func mix(_ state: UInt64) -> UInt64 {
    var word = state &+ increment
    word = (word ^ word >> 30) &* 0xBF58_476D_1CE4_E5B9
    word = (word ^ word >> 27) &* 0x94D0_49BB_1331_11EB
    return word ^ word >> 31
  }
}
