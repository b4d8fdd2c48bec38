package import Domain
internal import Glibc

/// Staging memory: a memfd as long as the tenant, mapped for reading. Page p's copy lies at page p; only what is staged
/// takes memory. It is written by pwrite (which, unlike a store, does not zero a page first) and made at `enable`.
package final class StagingArea: StagingMemory, @unchecked Sendable {  // `area` changes only while no page is staged
  private struct Area {
    let file: Descriptor
    let mapping: MemoryMapping
  }

  private let geometry: PageGeometry
  private let pageCount: Int
  let hasher: PageHasher
  private let account: PageAccount
  private var area: Area?

  /// - Parameter limit: of all tenants' staging memory.
  package init(pageCount: Int, geometry: PageGeometry, hasher: PageHasher, limit: SharedPageLimit? = nil) {
    account = PageAccount(capacity: pageCount, limit: limit)
    self.pageCount = pageCount
    self.geometry = geometry
    self.hasher = hasher
  }

  /// - Parameter hold: keeps the memory's descriptor alive beyond this process, before anything is in it.
  package func create(_ hold: (Descriptor) throws(SystemError) -> Void = { _ in }) throws(PortFailure) {
    if area != nil { return }
    do throws(SystemError) {
      let file = try makeMemoryFile("swap-monitor-staging", bytes: geometry.bytes(inPages: pageCount))
      try hold(file)
      try adopt(file)
    } catch { throw PortFailure(.createStaging, errorNumber: error.errorNumber) }
  }

  /// Takes over what an earlier worker has left.
  package func adopt(_ file: Descriptor) throws(SystemError) {
    let bytes = geometry.bytes(inPages: pageCount)
    area = Area(
      file: file, mapping: try MemoryMapping(of: file, bytes: bytes, writable: false, operation: "mapping staging"))
    account.adopt(file, geometry)
  }

  package func destroy() {
    area = nil
    account.removeAll()
  }

  package func reserve(_ pages: Int) -> Bool { account.reserve(pages) }

  package func isZero(_ page: PageIndex) -> Bool { isZeroPage(address(of: page), geometry) }

  package func checksum(of page: PageIndex) -> PageChecksum { pageChecksum(address(of: page), geometry, hasher) }

  package func nextCopies(in range: PageRange) throws(PortFailure) -> PageRange? {
    let (start, end) = (
      geometry.bytes(inPages: range.lowerBound.rawValue), geometry.bytes(inPages: range.upperBound.rawValue)
    )
    guard let data = try nextData(current.file, in: start..<end, operation: .findStagedCopies) else { return nil }
    return PageIndex(data.lowerBound >> geometry.pageShift)..<PageIndex(data.upperBound >> geometry.pageShift)
  }

  package func release(_ pages: PageRange) throws(PortFailure) {
    try punchHole(current.file, pages: pages, geometry: geometry, operation: .releaseStaging)
    account.remove(pages.lowerBound.rawValue..<pages.upperBound.rawValue)
  }

  func write(_ bytes: UnsafeRawBufferPointer, at page: PageIndex) throws(PortFailure) {
    // Once: what was reserved covers it.
    guard account.add(page.rawValue..<(page.rawValue + bytes.count >> geometry.pageShift)) else {
      throw PortFailure(.writeStaging, errorNumber: ENOMEM)
    }
    try writeAll(current.file, bytes, at: geometry.bytes(inPages: page.rawValue), operation: .writeStaging)
  }

  func address(of page: PageIndex) -> UnsafeMutableRawPointer {
    current.mapping.address + geometry.bytes(inPages: page.rawValue)
  }

  /// Where a page's content lies in its source.
  func address(of page: PageIndex, in source: PageSource<LockedBuffer>) -> UnsafeMutableRawPointer {
    switch source {
    case .staging: address(of: page)
    case .buffer(let buffer, let index): buffer.page(index)
    }
  }

  private var current: Area {
    guard let area else { preconditionFailure("staging memory is used before it is made") }
    return area
  }
}

func isZeroPage(_ page: UnsafeRawPointer, _ geometry: PageGeometry) -> Bool {
  // Safety: a mapped page, page aligned, that outlives this call.
  let words = page.assumingMemoryBound(to: SIMD8<UInt64>.self)
  for index in 0..<(geometry.pageBytes / 64) where words[index] != .zero { return false }
  return true
}

func pageChecksum(_ page: UnsafeRawPointer, _ geometry: PageGeometry, _ hasher: PageHasher) -> PageChecksum {
  // Safety: a mapped page, page aligned, that outlives this call.
  let words = UnsafeBufferPointer(start: page.assumingMemoryBound(to: UInt64.self), count: geometry.pageBytes / 8)
  return hasher.checksum(of: words.span)
}

/// The next run of data in a range of a file in memory, in bytes; nil where there is none.
func nextData(_ file: Descriptor, in range: Range<Int>, operation: PortOperation) throws(PortFailure) -> Range<Int>? {
  let (data, errorNumber) = retryingInterrupts { lseek(file.raw, range.lowerBound, SEEK_DATA) }
  if data < 0 {
    if errorNumber == ENXIO { return nil }  // no data up to the file's end
    throw PortFailure(operation, errorNumber: errorNumber)
  }
  guard data < range.upperBound else { return nil }
  let (hole, holeErrorNumber) = retryingInterrupts { lseek(file.raw, data, SEEK_HOLE) }
  if hole < 0 {
    if holeErrorNumber == ENXIO { return nil }  // it became a hole between the two calls
    throw PortFailure(operation, errorNumber: holeErrorNumber)
  }
  return data..<min(hole, range.upperBound)
}

func punchHole(_ file: Descriptor, pages: PageRange, geometry: PageGeometry, operation: PortOperation)
  throws(PortFailure)
{
  try punchHole(
    file, offset: geometry.bytes(inPages: pages.lowerBound.rawValue), bytes: geometry.bytes(inPages: pages.count),
    operation: operation)
}

func punchHole(_ file: Descriptor, offset: Int, bytes: Int, operation: PortOperation) throws(PortFailure) {
  let (result, errorNumber) = retryingInterrupts {
    fallocate(file.raw, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, bytes)
  }
  if result != 0 { throw PortFailure(operation, errorNumber: errorNumber) }
}

/// Writes everything, however short each write is.
func writeAll(_ file: Descriptor, _ bytes: UnsafeRawBufferPointer, at offset: Int, operation: PortOperation)
  throws(PortFailure)
{
  var done = 0
  while done < bytes.count {
    let (count, errorNumber) = retryingInterrupts {
      pwrite(file.raw, bytes.baseAddress! + done, bytes.count - done, offset + done)
    }
    if count <= 0 { throw PortFailure(operation, errorNumber: count == 0 ? EIO : errorNumber) }
    done += count
  }
}

/// Reads everything; the end of the file is an error.
func readAll(_ file: Descriptor, _ bytes: UnsafeMutableRawBufferPointer, at offset: Int, operation: PortOperation)
  throws(PortFailure)
{
  var done = 0
  while done < bytes.count {
    let (count, errorNumber) = retryingInterrupts {
      pread(file.raw, bytes.baseAddress! + done, bytes.count - done, offset + done)
    }
    if count <= 0 { throw PortFailure(operation, errorNumber: count == 0 ? EIO : errorNumber) }
    done += count
  }
}
