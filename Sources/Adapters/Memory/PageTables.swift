package import Domain
internal import Glibc
internal import Synchronization

/// A tenant's page tables in a memfd that a later worker can take over: a header, then a record per page, then a checksum
/// per page. Untouched parts cost nothing, and `reset` gives everything behind the header back.
///
/// Layout, in 64-bit words: magic, layout version, page count, number of key words, the checksum key; then, each on a page
/// bound, the records (one word a page) and the checksums (two words a page).
package final class PageTables: RecordTable, @unchecked Sendable {
  // records are atomics; a checksum belongs to its record's writer
  package let hasher: PageHasher
  package let file: Descriptor
  private let mapping: MemoryMapping
  private let records: UnsafeMutablePointer<Atomic<UInt64>>
  private let checksums: UnsafeMutablePointer<UInt64>
  private let headerBytes: Int
  private let recordBytes: Int
  private let pageCount: Int

  private static let magic: UInt64 = 0x7377_6170_6d6f_6e31  // "swapmon1"
  private static let layoutVersion = UInt64(Keeper.layoutVersion)
  fileprivate static let headerWords = 4
  /// Of the smallest page that there is.
  private static let recordsPerTablePage = 4096 / 8

  package convenience init(pageCount: Int, geometry: PageGeometry) throws(SystemError) {
    let key = Machine.randomWords(PageHasher.keyWords(pageBytes: geometry.pageBytes))
    let header = [Self.magic, Self.layoutVersion, UInt64(pageCount), UInt64(key.count)] + key
    let file = try makeMemoryFile(
      "swap-monitor-tables", containing: header.withUnsafeBytes(Array.init), count: Layout(pageCount, geometry).bytes)
    try self.init(adopting: file, pageCount: pageCount, geometry: geometry)
  }

  /// Takes over what an earlier worker has left.
  ///
  /// - Throws: EINVAL where these are no page tables of this layout for so many pages.
  package init(adopting file: Descriptor, pageCount: Int, geometry: PageGeometry) throws(SystemError) {
    let layout = Layout(pageCount, geometry)
    var status = stat()
    guard fstat(file.raw, &status) == 0, status.st_size == layout.bytes else {
      throw SystemError("taking over page tables of another size", errorNumber: EINVAL)
    }
    let mapping = try MemoryMapping(of: file, bytes: layout.bytes, writable: true, operation: "mapping page tables")
    // Safety: the mapping is page aligned and as long as header, records and checksums together.
    let header = mapping.address.bindMemory(to: UInt64.self, capacity: layout.headerBytes / 8)
    let keyWords = PageHasher.keyWords(pageBytes: geometry.pageBytes)
    guard header[0] == Self.magic, header[1] == Self.layoutVersion, header[2] == UInt64(pageCount),
      header[3] == UInt64(keyWords)
    else { throw SystemError("taking over page tables of another layout", errorNumber: EINVAL) }
    let key = (0..<keyWords).map { header[Self.headerWords + $0] }
    records = (mapping.address + layout.headerBytes).bindMemory(to: Atomic<UInt64>.self, capacity: pageCount)
    checksums = (mapping.address + layout.headerBytes + layout.recordBytes).bindMemory(
      to: UInt64.self, capacity: 2 * pageCount)
    hasher = PageHasher(pageBytes: geometry.pageBytes, key: key)
    headerBytes = layout.headerBytes
    recordBytes = layout.recordBytes
    self.pageCount = pageCount
    self.file = file
    self.mapping = mapping
  }

  private struct Layout {
    let headerBytes: Int
    let recordBytes: Int
    let bytes: Int

    init(_ pageCount: Int, _ geometry: PageGeometry) {
      func roundUp(_ bytes: Int) -> Int { (bytes + geometry.pageBytes - 1) & ~(geometry.pageBytes - 1) }
      headerBytes = roundUp((PageTables.headerWords + PageHasher.keyWords(pageBytes: geometry.pageBytes)) * 8)
      recordBytes = roundUp(pageCount * 8)
      bytes = headerBytes + recordBytes + roundUp(pageCount * 16)
    }
  }

  /// Untouched parts of the table memory are holes. SEEK_HOLE, which walks over all the data that follows, is not asked: who
  /// takes over would have it do so for each page of the table.
  package func nextRecorded(from start: PageIndex) -> PageIndex? {
    var position = start.rawValue
    while position < pageCount {
      if position % Self.recordsPerTablePage == 0 {
        let (offset, errorNumber) = retryingInterrupts { lseek(file.raw, headerBytes + position * 8, SEEK_DATA) }
        if errorNumber == ENXIO { return nil }
        // Where it fails otherwise, everything is looked at.
        position = max(position, (offset - headerBytes) / 8)
      }
      let end = min(pageCount, (position / Self.recordsPerTablePage + 1) * Self.recordsPerTablePage)
      while position < end {
        if records[position].load(ordering: .relaxed) != 0 { return PageIndex(position) }
        position += 1
      }
    }
    return nil
  }

  package func record(of page: PageIndex) -> PageRecord {
    PageRecord(rawValue: records[page.rawValue].load(ordering: .acquiring))
  }

  package func setRecord(_ record: PageRecord, of page: PageIndex) {
    records[page.rawValue].store(record.rawValue, ordering: .releasing)
  }

  package func checksum(of page: PageIndex) -> PageChecksum {
    PageChecksum(low: checksums[2 * page.rawValue], high: checksums[2 * page.rawValue + 1])
  }

  package func setChecksum(_ checksum: PageChecksum, of page: PageIndex) {
    checksums[2 * page.rawValue] = checksum.low
    checksums[2 * page.rawValue + 1] = checksum.high
  }

  package func reset() {
    let (result, _) = retryingInterrupts {
      fallocate(file.raw, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, headerBytes, mapping.count - headerBytes)
    }
    // A punch of our own memfd does not fail; should it ever, clearing by hand costs memory and keeps the meaning.
    if result != 0 { memset(mapping.address + headerBytes, 0, mapping.count - headerBytes) }
  }
}
