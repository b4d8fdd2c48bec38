import Domain
import Glibc
import Testing

@testable import Adapters

@Suite struct GuestFilesTests {
  /// A sparse file much larger than memory, and regions at odd places of it: (tenant pages, file pages).
  private final class Fixture {
    static let firstRegion = (count: 200, filePage: (5 << 30) / 4096 + 3)
    static let secondRegion = (count: 131, filePage: 77)
    static let pageCount = firstRegion.count + secondRegion.count
    let file: Descriptor
    let staging: StagingArea
    let guest: GuestFiles

    init() throws {
      file = try makeGuestFile(pages: (8 << 30) / 4096)
      staging = StagingArea(pageCount: Self.pageCount, geometry: Machinery.geometry, hasher: testHasher)
      try staging.create()
      let judged = try GuestFileInspection.inspect(file, number: 0, geometry: Machinery.geometry)
      let requests = [Self.firstRegion, Self.secondRegion].enumerated().map { number, region in
        RegionRequest(
          address: UInt64(number + 1) << 36, size: UInt64(region.count * Machinery.pageBytes), file: 0,
          offset: UInt64(region.filePage * Machinery.pageBytes))
      }
      let map = try RegionMap(requests, files: [judged], geometry: Machinery.geometry)
      guest = GuestFiles(map: map, files: [file], identities: [FileIdentity(device: 0, inode: 0)], staging: staging)
    }

    func filePage(_ page: Int) -> Int {
      page < Self.firstRegion.count
        ? Self.firstRegion.filePage + page : Self.secondRegion.filePage + page - Self.firstRegion.count
    }

    func put(_ byte: UInt8, _ page: Int) { AdaptersTests.put(filled(byte), in: file, page: filePage(page)) }
    func get(_ page: Int) -> UInt8 { AdaptersTests.get(file, page: filePage(page))[0] }
    func hasData(_ page: Int) -> Bool { AdaptersTests.hasData(file, page: filePage(page)) }
    func staged(_ page: Int) throws -> UInt8 { try staging.firstByte(of: PageIndex(page)) }

    /// All runs that `nextData` finds in a range, as single pages.
    func dataPages(in range: Range<Int>) throws -> [Int] {
      var found: [Int] = []
      var position = range.lowerBound
      while position < range.upperBound, let run = try guest.nextData(in: pages(position, range.upperBound)) {
        #expect(!run.isEmpty && run.lowerBound.rawValue >= position && run.upperBound.rawValue <= range.upperBound)
        found += run.lowerBound.rawValue..<run.upperBound.rawValue
        position = run.upperBound.rawValue
      }
      return found
    }
  }

  @Test(
    "the pages with data are found exactly, in every window, also where data of others lies on both sides",
    .enabled(if: Machinery.hasSmallPages), arguments: [1, 2, 3, 4] as [UInt64])
  func nextDataIsExact(seed: UInt64) throws {
    let guest = try Fixture()
    // Data right before and behind both regions: none of it is ours.
    for region in [Fixture.firstRegion, Fixture.secondRegion] {
      put(filled(1), in: guest.file, page: region.filePage - 1)
      put(filled(1), in: guest.file, page: region.filePage + region.count)
    }
    var expected: Set<Int> = []
    var state = seed
    // Runs of 1 to 8 pages with gaps of 0 to 7.
    var page = Int(seed % 3)
    while page < Fixture.pageCount {
      state = SplitMix.mix(state)
      for _ in 0...Int(state & 7) where page < Fixture.pageCount {
        expected.insert(page)
        guest.put(1, page)
        page += 1
      }
      page += Int(state >> 8 & 7)
    }
    #expect(try guest.guest.residentPages() == expected.count)
    let bounds = [0..<200, 200..<331]
    for region in bounds {
      #expect(try guest.dataPages(in: region) == region.filter(expected.contains))
      for _ in 0..<50 {
        state = SplitMix.mix(state)
        let start = region.lowerBound + Int(state % UInt64(region.count))
        let end = start + 1 + Int(state >> 32) % (region.upperBound - start)
        #expect(try guest.dataPages(in: start..<end) == (start..<end).filter(expected.contains))
        #expect(
          try guest.guest.firstData(in: pages(start, end))
            == (start..<end).first(where: expected.contains).map(PageIndex.init))
      }
    }
  }

  @Test("a file without data, and data behind the window only")
  func nothingThere() throws {
    let guest = try Fixture()
    #expect(try guest.guest.nextData(in: pages(0, 200)) == nil)
    #expect(try guest.guest.residentPages() == 0)
    guest.put(1, 199)
    #expect(try guest.guest.nextData(in: pages(0, 199)) == nil)
    #expect(try guest.guest.nextData(in: pages(0, 200)) == pages(199, 200))
    #expect(try guest.guest.nextData(in: pages(200, 331)) == nil)
  }

  @Test("the file position that a client shares is not moved")
  func positionIsOurOwn() throws {
    let guest = try Fixture()
    guest.put(1, 3)
    lseek(guest.file.raw, 12_345, SEEK_SET)
    _ = try guest.guest.residentPages()
    #expect(lseek(guest.file.raw, 0, SEEK_CUR) == 12_345)
  }

  @Test("copying to staging takes holes as zeros and does not fill them")
  func copyToStaging() throws {
    let guest = try Fixture()
    for page in stride(from: 0, to: 200, by: 3) { guest.put(UInt8(page % 250 + 1), page) }
    let zero = try guest.guest.copyToStaging(pages(0, 200))  // more than the copy buffer holds
    #expect(zero.map(\.rawValue) == (0..<200).filter { $0 % 3 != 0 })
    for page in 0..<200 {
      #expect(try guest.staged(page) == (page % 3 == 0 ? UInt8(page % 250 + 1) : 0))
      #expect(try guest.staging.isZero(PageIndex(page)) == (page % 3 != 0))
    }
    #expect((0..<200).filter { guest.hasData($0) } == Array(stride(from: 0, to: 200, by: 3)))
    // Only these pages were written.
    #expect(allocatedBytes(guest.file) == 67 * Machinery.pageBytes)
  }

  @Test(
    "punched pages are holes, their neighbours are not, and staged copies restore them",
    .enabled(if: Machinery.hasSmallPages))
  func punchAndRestore() throws {
    let guest = try Fixture()
    for page in 200..<331 { guest.put(UInt8(page - 199), page) }
    #expect(try guest.guest.copyToStaging(pages(210, 330)).isEmpty)
    try guest.guest.punch(pages(210, 330))
    #expect((200..<331).filter { guest.hasData($0) } == Array(200..<210) + [330])
    #expect(guest.get(209) == 10 && guest.get(330) == 131 && guest.get(210) == 0)
    try guest.guest.restore(pages(215, 320), from: .staging)
    #expect((200..<331).filter { guest.hasData($0) } == Array(200..<210) + Array(215..<320) + [330])
    #expect((215..<320).allSatisfy { guest.get($0) == UInt8($0 - 199) })
    // The regions are apart in the file, and nothing else was written.
    #expect(allocatedBytes(guest.file) == (10 + 105 + 1) * Machinery.pageBytes)
  }

  @Test("a seal against writing is an error of the punch")
  func sealed() throws {
    let raw = memfd_create("sealed", UInt32(MFD_CLOEXEC) | UInt32(MFD_ALLOW_SEALING))
    let file = Descriptor(owning: raw)
    try #require(ftruncate(raw, 16 * Machinery.pageBytes) == 0)
    let staging = StagingArea(pageCount: 16, geometry: Machinery.geometry, hasher: testHasher)
    let map = try RegionMap(
      [RegionRequest(address: 1 << 36, size: UInt64(16 * Machinery.pageBytes), file: 0, offset: 0)],
      files: [GuestFile(identity: FileIdentity(device: 0, inode: 0), size: UInt64(16 * Machinery.pageBytes))],
      geometry: Machinery.geometry)
    let guest = GuestFiles(
      map: map, files: [file], identities: [FileIdentity(device: 0, inode: 0)], staging: staging)
    put(filled(1), in: file, page: 0)
    try #require(fcntl(raw, F_ADD_SEALS, F_SEAL_WRITE) == 0)
    #expect(throws: PortFailure(.punchGuestMemory, errorNumber: EPERM)) { try guest.punch(pages(0, 1)) }
  }

  @Test("a file that has become shorter is an error, not a signal")
  func shortened() throws {
    let raw = memfd_create("short", UInt32(MFD_CLOEXEC))
    let file = Descriptor(owning: raw)
    let staging = StagingArea(pageCount: 16, geometry: Machinery.geometry, hasher: testHasher)
    try staging.create()
    let map = try RegionMap(
      [RegionRequest(address: 1 << 36, size: UInt64(16 * Machinery.pageBytes), file: 0, offset: 0)],
      files: [GuestFile(identity: FileIdentity(device: 0, inode: 0), size: UInt64(16 * Machinery.pageBytes))],
      geometry: Machinery.geometry)
    let guest = GuestFiles(
      map: map, files: [file], identities: [FileIdentity(device: 0, inode: 0)], staging: staging)
    try #require(ftruncate(raw, 4 * Machinery.pageBytes) == 0)
    #expect(throws: PortFailure(.readGuestMemory, errorNumber: EIO)) { _ = try guest.copyToStaging(pages(0, 16)) }
    #expect(try guest.nextData(in: pages(8, 16)) == nil)
  }
}
