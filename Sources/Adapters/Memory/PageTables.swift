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
  private let file: Descriptor
  private let mapping: MemoryMapping
  private let records: UnsafeMutablePointer<Atomic<UInt64>>
  private let checksums: UnsafeMutablePointer<UInt64>
  private let headerBytes: Int

  private static let magic: UInt64 = 0x7377_6170_6d6f_6e31  // "swapmon1"
  private static let layoutVersion: UInt64 = 1
  private static let headerWords = 4

  package init(pageCount: Int, geometry: PageGeometry) throws(SystemError) {
    let key = Machine.randomWords(PageHasher.keyWords(pageBytes: geometry.pageBytes))
    func roundUp(_ bytes: Int) -> Int { (bytes + geometry.pageBytes - 1) & ~(geometry.pageBytes - 1) }
    let headerBytes = roundUp((Self.headerWords + key.count) * 8)
    let recordBytes = roundUp(pageCount * 8)
    let bytes = headerBytes + recordBytes + roundUp(pageCount * 16)
    let file = try makeMemoryFile("swap-monitor-tables", bytes: bytes)
    let mapping = try MemoryMapping(of: file, bytes: bytes, writable: true, operation: "mapping page tables")
    // Safety: the mapping is page aligned and as long as header, records and checksums together.
    let header = mapping.address.bindMemory(to: UInt64.self, capacity: headerBytes / 8)
    header[0] = Self.magic
    header[1] = Self.layoutVersion
    header[2] = UInt64(pageCount)
    header[3] = UInt64(key.count)
    for (number, word) in key.enumerated() { header[Self.headerWords + number] = word }
    records = (mapping.address + headerBytes).bindMemory(to: Atomic<UInt64>.self, capacity: pageCount)
    checksums = (mapping.address + headerBytes + recordBytes).bindMemory(to: UInt64.self, capacity: 2 * pageCount)
    hasher = PageHasher(pageBytes: geometry.pageBytes, key: key)
    self.headerBytes = headerBytes
    self.file = file
    self.mapping = mapping
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
