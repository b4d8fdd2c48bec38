package import Domain
internal import Glibc

/// Staging memory: a memfd as long as the tenant. Page p's copy lies at page p; only what is staged takes memory. It is made at
/// `enable`, and read and written by pread and pwrite alone: nothing maps it (see `CopyBuffers`), and a look fills no hole.
package final class StagingArea: StagingMemory, @unchecked Sendable {  // `made` changes only while no page is staged
  private let geometry: PageGeometry
  private let pageCount: Int
  private let hasher: PageHasher
  private let account: PageAccount
  package let buffers: CopyBuffers
  private var made: Descriptor?

  /// - Parameters:
  ///   - limit: of all tenants' staging memory.
  ///   - budget: of all tenants' locked memory; nil, and pages go through small buffers only.
  package init(
    pageCount: Int, geometry: PageGeometry, hasher: PageHasher, limit: SharedPageLimit? = nil,
    budget: LockedMemory? = nil
  ) {
    account = PageAccount(capacity: pageCount, limit: limit)
    buffers = CopyBuffers(geometry: geometry, hasher: hasher, budget: budget)
    self.pageCount = pageCount
    self.geometry = geometry
    self.hasher = hasher
  }

  /// - Parameter hold: keeps the memory's descriptor alive beyond this process, before anything is in it.
  package func create(_ hold: (Descriptor) throws(SystemError) -> Void = { _ in }) throws(PortFailure) {
    if made != nil { return }
    do throws(SystemError) {
      let file = try makeMemoryFile("swap-monitor-staging", bytes: geometry.bytes(inPages: pageCount))
      try hold(file)
      adopt(file)
    } catch { throw PortFailure(.createStaging, errorNumber: error.errorNumber) }
  }

  /// Takes over what an earlier worker has left.
  package func adopt(_ file: Descriptor) {
    made = file
    account.adopt(file, geometry)
  }

  package func destroy() {
    made = nil
    account.removeAll()
  }

  package func reserve(_ pages: Int) -> Bool { account.reserve(pages) }

  package func examine(_ pages: PageRange, _ body: (PageIndex, PageContent) -> Void) throws(PortFailure) {
    try forEachPart(of: pages) { (part, bytes) throws(PortFailure) in
      for (number, page) in part.enumerated() {
        body(page, PageContent(bytes.baseAddress! + geometry.bytes(inPages: number), geometry, hasher))
      }
    }
  }

  package func nextCopies(in range: PageRange) throws(PortFailure) -> PageRange? {
    let (start, end) = (
      geometry.bytes(inPages: range.lowerBound.rawValue), geometry.bytes(inPages: range.upperBound.rawValue)
    )
    guard let data = try nextData(file, in: start..<end, operation: .findStagedCopies) else { return nil }
    return PageIndex(data.lowerBound >> geometry.pageShift)..<PageIndex(data.upperBound >> geometry.pageShift)
  }

  package func release(_ pages: PageRange) throws(PortFailure) {
    try punchHole(file, pages: pages, geometry: geometry, operation: .releaseStaging)
    account.remove(pages.lowerBound.rawValue..<pages.upperBound.rawValue)
  }

  func write(_ bytes: UnsafeRawBufferPointer, at page: PageIndex) throws(PortFailure) {
    // Once: what was reserved covers it.
    guard account.add(page.rawValue..<(page.rawValue + bytes.count >> geometry.pageShift)) else {
      throw PortFailure(.writeStaging, errorNumber: ENOMEM)
    }
    try writeAll(file, bytes, at: geometry.bytes(inPages: page.rawValue), operation: .writeStaging)
  }

  /// Fills the buffer with so many copies. What has none reads as zeros.
  func read(_ pages: PageRange, into bytes: UnsafeMutableRawPointer) throws(PortFailure) {
    try readAll(
      file, UnsafeMutableRawBufferPointer(start: bytes, count: geometry.bytes(inPages: pages.count)),
      at: geometry.bytes(inPages: pages.lowerBound.rawValue), operation: .readStaging)
  }

  /// Reads scattered copies, one behind the other.
  ///
  /// - Returns: their checksums.
  func gather(_ pages: ArraySlice<PageIndex>, into bytes: UnsafeMutableRawPointer) throws(PortFailure)
    -> [PageChecksum]
  {
    var checksums: [PageChecksum] = []
    var index = pages.startIndex
    while index < pages.endIndex {
      let first = pages[index]
      var run = first..<(first + 1)
      while index + run.count < pages.endIndex, pages[index + run.count] == run.upperBound, run.count < cachedPages {
        run = first..<(run.upperBound + 1)
      }
      let place = bytes + geometry.bytes(inPages: checksums.count)
      try read(run, into: place)
      for number in 0..<run.count {
        checksums.append(pageChecksum(place + geometry.bytes(inPages: number), geometry, hasher))
      }
      index += run.count
    }
    return checksums
  }

  package func withCopies<Result>(
    of pages: PageRange, _ body: (LockedBuffer, PageRange) throws(PortFailure) -> Result
  ) throws(PortFailure) -> Result {
    try buffers.with(pages: pages.count, for: .readStaging) { (buffer) throws(PortFailure) in
      let part = pages.prefix(min(buffer.capacityPages, cachedPages))
      try read(part, into: buffer.address)
      return try body(buffer, part)
    }
  }

  private func forEachPart(
    of pages: PageRange, _ body: (PageRange, UnsafeMutableRawBufferPointer) throws(PortFailure) -> Void
  ) throws(PortFailure) {
    var position = pages.lowerBound
    while position < pages.upperBound {
      position = try withCopies(of: position..<pages.upperBound) { (buffer, part) throws(PortFailure) in
        try body(part, buffer.bytes(part.count))
        return part.upperBound
      }
    }
  }

  /// The same of what lies in a buffer already: all of it.
  func forEachPart(
    of pages: PageRange, from source: PageSource<LockedBuffer>,
    _ body: (PageRange, UnsafeMutableRawBufferPointer) throws(PortFailure) -> Void
  ) throws(PortFailure) {
    guard case .buffer(let buffer, let index) = source else { return try forEachPart(of: pages, body) }
    let bytes = geometry.bytes(inPages: pages.count)
    try body(pages, UnsafeMutableRawBufferPointer(start: buffer.page(index), count: bytes))
  }

  /// 256 KiB stay in the second-level cache.
  var cachedPages: Int { max(1, (256 << 10) >> geometry.pageShift) }

  private var file: Descriptor {
    guard let made else { preconditionFailure("staging memory is used before it is made") }
    return made
  }
}

/// What a page holds, as long as the buffer is lent in which it lies.
package struct PageContent: StagedContent {
  private let page: UnsafeRawPointer
  private let geometry: PageGeometry
  private let hasher: PageHasher

  init(_ page: UnsafeRawPointer, _ geometry: PageGeometry, _ hasher: PageHasher) {
    (self.page, self.geometry, self.hasher) = (page, geometry, hasher)
  }

  package var isZero: Bool { isZeroPage(page, geometry) }
  package var checksum: PageChecksum { pageChecksum(page, geometry, hasher) }
}

func isZeroPage(_ page: UnsafeRawPointer, _ geometry: PageGeometry) -> Bool {
  // Safety: a mapped page, page aligned, that outlives this call.
  let words = page.assumingMemoryBound(to: SIMD8<UInt64>.self)
  guard words[0] == .zero else { return false }
  // Comparing costs more than reading does: four lines at a time.
  for index in stride(from: 0, to: geometry.pageBytes / 64, by: 4)
  where words[index] | words[index + 1] | words[index + 2] | words[index + 3] != .zero { return false }
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
