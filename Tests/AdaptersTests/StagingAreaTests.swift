import Domain
import Glibc
import Testing

@testable import Adapters

@Suite struct StagingAreaTests {
  private static let pageCount = 64

  private static func makeArea() throws -> StagingArea {
    let area = StagingArea(pageCount: pageCount, geometry: Machinery.geometry, hasher: testHasher)
    try area.create()
    return area
  }

  private static func write(_ bytes: [UInt8], at page: Int, in area: StagingArea) throws {
    try bytes.withUnsafeBytes { try area.write($0, at: PageIndex(page)) }
  }

  @Test("only what is staged takes memory, and releasing gives it back")
  func memory() throws {
    let area = try Self.makeArea()
    let file = try #require(hidden("made", "some", in: area, as: Descriptor.self))
    #expect(allocatedBytes(file) == 0)
    #expect(Int(status(of: file).st_size) == Self.pageCount * Machinery.pageBytes)
    try Self.write(filled(7, pages: 16), at: 8, in: area)
    #expect(allocatedBytes(file) == 16 * Machinery.pageBytes)
    try area.release(pages(10, 12))
    #expect(allocatedBytes(file) == 14 * Machinery.pageBytes)
    for page in 8..<24 {
      #expect(try area.firstByte(of: PageIndex(page)) == ([10, 11].contains(page) ? 0 : 7))
    }
    #expect(allocatedBytes(file) == 14 * Machinery.pageBytes, "a look fills no hole")
    try area.release(pages(0, Self.pageCount))
    #expect(allocatedBytes(file) == 0)
  }

  @Test("a page is zero when its every byte is", .enabled(if: Machinery.pageBytes == 4096))
  func isZero() throws {
    let area = try Self.makeArea()
    try Self.write(filled(0), at: 3, in: area)
    #expect(try area.isZero(PageIndex(3)))
    // Each byte alone, 64 pages at a time; each of the eight bits in turn.
    for start in stride(from: 0, to: 4096, by: Self.pageCount) {
      var bytes = [UInt8](repeating: 0, count: Self.pageCount * 4096)
      for page in 0..<Self.pageCount { bytes[page * 4096 + start + page] = 1 << UInt8(page & 7) }
      try Self.write(bytes, at: 0, in: area)
      #expect(try (0..<Self.pageCount).allSatisfy { !(try area.isZero(PageIndex($0))) })
    }
  }

  @Test("a page's checksum is its content's, wherever it lies")
  func checksum() throws {
    let area = try Self.makeArea()
    var bytes = filled(0, pages: 2)
    for index in 0..<Machinery.pageBytes {
      bytes[index] = UInt8(truncatingIfNeeded: SplitMix.mix(UInt64(index)))
      bytes[Machinery.pageBytes + index] = bytes[index]
    }
    try Self.write(bytes, at: 5, in: area)
    let words = (0..<Machinery.pageBytes / 8).map { index in
      bytes.withUnsafeBytes { $0.load(fromByteOffset: 8 * index, as: UInt64.self) }
    }
    let expected = testHasher.checksum(of: words.span)
    #expect(try area.checksum(of: PageIndex(5)) == expected)
    #expect(try area.checksum(of: PageIndex(6)) == expected)
    bytes[4095] ^= 0x80
    try Self.write(Array(bytes[0..<Machinery.pageBytes]), at: 6, in: area)
    #expect(try area.checksum(of: PageIndex(6)) != expected)
  }

  @Test("destroying gives the descriptor and the memory back; it can be made again, empty")
  func destroy() throws {
    let area = try Self.makeArea()
    try Self.write(filled(7), at: 0, in: area)
    let raw = try #require(hidden("made", "some", in: area, as: Descriptor.self)).raw
    let inode = status(of: Descriptor(owning: dup(raw))).st_ino
    area.destroy()
    let left = openDescriptors { $0.contains("swap-monitor-staging") }.filter {
      var status = stat()
      return fstat($0, &status) == 0 && status.st_ino == inode
    }
    #expect(left.isEmpty)
    try area.create()
    #expect(try area.isZero(PageIndex(0)))
  }

  @Test("writing to staging that is not there yet ends the program with its reason")
  func useBeforeCreate() async {
    await #expect(processExitsWith: .failure) {
      let area = StagingArea(pageCount: 1, geometry: Machinery.geometry, hasher: testHasher)
      _ = try area.isZero(PageIndex(0))
    }
  }

  @Test("copies of every length are examined, in order, through large and small buffers", arguments: [0, 1])
  func examine(buffers: Int) throws {
    let (count, bytes) = (700, buffers * Machinery.geometry.bytes(inPages: Machinery.geometry.hugePagePages))
    let budget = LockedMemory(budget: PrefetchBudget(memoryLockLimitBytes: UInt64(bytes)))
    let area = StagingArea(
      pageCount: count, geometry: Machinery.geometry, hasher: testHasher, budget: budget)
    try area.create()
    for page in 0..<count where page % 7 != 0 { try Self.write(filled(UInt8(page % 7)), at: page, in: area) }
    for range in [pages(0, 1), pages(3, 20), pages(5, 69), pages(0, count)] {
      var seen: [PageIndex] = []
      try area.examine(range) { page, content in
        seen.append(page)
        #expect(content.isZero == (page.rawValue % 7 == 0))
      }
      #expect(seen == Array(range))
    }
    #expect(budget.take(1) == false)
    area.buffers.releaseLarge()
    #expect(budget.take(bytes))
  }
}
