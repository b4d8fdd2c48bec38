import Domain
import Glibc
import Testing

@testable import Adapters

@Suite struct PageTablesTests {
  @Test("records and checksums come back as they were stored, each its own", arguments: [1, 511, 512, 513, 5000])
  func roundTrip(pageCount: Int) throws {
    let tables = try PageTables(pageCount: pageCount, geometry: Machinery.geometry)
    func record(_ page: Int) -> PageRecord {
      PageRecord(PageState.allCases[page % 5], slot: SwapSlot(page), slotIsValid: page % 2 == 0)
    }
    func checksum(_ page: Int) -> PageChecksum {
      PageChecksum(low: SplitMix.mix(UInt64(page)), high: SplitMix.mix(~UInt64(page)))
    }
    for page in 0..<pageCount {
      #expect(tables.record(of: PageIndex(page)) == .guest)
      #expect(tables.checksum(of: PageIndex(page)) == PageChecksum(low: 0, high: 0))
    }
    for page in (0..<pageCount).reversed() {
      tables.setChecksum(checksum(page), of: PageIndex(page))
      tables.setRecord(record(page), of: PageIndex(page))
    }
    #expect((0..<pageCount).allSatisfy { tables.record(of: PageIndex($0)) == record($0) })
    #expect((0..<pageCount).allSatisfy { tables.checksum(of: PageIndex($0)) == checksum($0) })
  }

  @Test("every record is found again, and nothing else", arguments: [1, 512, 513, 100_000])
  func recorded(pageCount: Int) throws {
    let tables = try PageTables(pageCount: pageCount, geometry: Machinery.geometry)
    #expect(tables.nextRecorded(from: PageIndex(0)) == nil)
    let pages = Set((0..<300).map { Int(SplitMix.mix($0) % UInt64(pageCount)) } + [0, pageCount - 1])
    for page in pages {
      tables.setRecord(PageRecord(.staged), of: PageIndex(page))
      tables.setChecksum(PageChecksum(low: 1, high: 2), of: PageIndex(page))
    }
    var found: [Int] = []
    var position = PageIndex(0)
    while let page = tables.nextRecorded(from: position) {
      found.append(page.rawValue)
      position = page + 1
    }
    #expect(found == pages.sorted())
  }

  @Test("fresh tables of a huge tenant cost nothing, and reset gives memory back and forgets all, but not the header")
  func reset() throws {
    let pageCount = 1 << 28  // a TiB of guest memory
    let tables = try PageTables(pageCount: pageCount, geometry: Machinery.geometry)
    let file = try #require(hidden("file", in: tables, as: Descriptor.self))
    let header = allocatedBytes(file)
    #expect(header <= 3 * Machinery.pageBytes)
    let before = get(file, page: 0)
    for page in stride(from: 0, to: 100_000, by: 100) {
      tables.setChecksum(PageChecksum(low: 1, high: 2), of: PageIndex(page))
      tables.setRecord(PageRecord(.staged), of: PageIndex(page))
    }
    #expect(allocatedBytes(file) > header + 200 * Machinery.pageBytes)
    tables.reset()
    #expect(allocatedBytes(file) == header)
    #expect(tables.record(of: PageIndex(200)) == .guest)
    #expect(tables.checksum(of: PageIndex(200)) == PageChecksum(low: 0, high: 0))
    #expect(tables.record(of: PageIndex(pageCount - 1)) == .guest)
    #expect(get(file, page: 0) == before)
    tables.setRecord(PageRecord(.file, slot: SwapSlot(9)), of: PageIndex(200))
    #expect(tables.record(of: PageIndex(200)).slot == SwapSlot(9))
  }

  @Test("the header holds what a later worker needs: layout, page count and the checksums' key")
  func header() throws {
    let tables = try PageTables(pageCount: 77, geometry: Machinery.geometry)
    let file = try #require(hidden("file", in: tables, as: Descriptor.self))
    let keyWords = PageHasher.keyWords(pageBytes: Machinery.pageBytes)
    var words = [UInt64](repeating: 0, count: 4 + keyWords)
    #expect(pread(file.raw, &words, words.count * 8, 0) == words.count * 8)
    #expect(Array(words[0..<4]) == [0x7377_6170_6d6f_6e31, UInt64(Keeper.layoutVersion), 77, UInt64(keyWords)])
    let content = (0..<UInt64(Machinery.pageBytes / 8)).map { SplitMix.mix($0) }
    let hasher = PageHasher(pageBytes: Machinery.pageBytes, key: Array(words[4...]))
    #expect(hasher.checksum(of: content.span) == tables.hasher.checksum(of: content.span))
  }

  @Test("each tenant has a key of its own")
  func keysDiffer() throws {
    let content = (0..<UInt64(Machinery.pageBytes / 8)).map { SplitMix.mix($0) }
    let checksums = try (0..<4).map { _ in
      try PageTables(pageCount: 1, geometry: Machinery.geometry).hasher.checksum(of: content.span)
    }
    #expect(Set(checksums).count == 4)
  }
}
