package import Domain
internal import Glibc

/// Page-aligned memory of our own that is not swapped out itself, into which slots are read and checked.
package final class LockedBuffer: ReadBuffer, @unchecked Sendable {  // one thread at a time has it
  package let capacityPages: Int
  let address: UnsafeMutableRawPointer
  private let mapping: MemoryMapping
  private let geometry: PageGeometry
  private let hasher: PageHasher
  private var checksums: [PageChecksum?] = []

  package init(pages: Int, geometry: PageGeometry, hasher: PageHasher) throws(SystemError) {
    // In one piece, if it is a huge page: a disk takes a request in so many pieces, and works at each.
    mapping = try MemoryMapping(
      anonymousBytes: geometry.bytes(inPages: pages), inPagesOf: geometry.bytes(inPages: geometry.hugePagePages),
      operation: "mapping a read buffer of \(pages) pages")
    address = mapping.address
    capacityPages = pages
    self.geometry = geometry
    self.hasher = hasher
    // Where the limit does not allow it, the buffer still works; it may be swapped out under memory pressure.
    mlock(address, mapping.count)
  }

  package func checksum(at index: Int) -> PageChecksum {
    (index < checksums.count ? checksums[index] : nil) ?? pageChecksum(self.page(index), geometry, hasher)
  }

  /// Computes the checksums of these pages beforehand: who reads has the time.
  func computeChecksums(_ pages: Range<Int>) {
    while checksums.count < pages.upperBound { checksums.append(nil) }
    for index in pages { checksums[index] = pageChecksum(self.page(index), geometry, hasher) }
  }

  /// Its content changes.
  func forgetChecksums() { checksums.removeAll(keepingCapacity: true) }

  func page(_ index: Int) -> UnsafeMutableRawPointer { address + geometry.bytes(inPages: index) }
}

/// The daemon's one budget of locked memory for reading ahead.
package final class LockedMemory: @unchecked Sendable {  // guarded by `lock`
  private let lock = PlainMutex()
  private var budget: PrefetchBudget

  package init(budget: PrefetchBudget) { self.budget = budget }

  func take(_ bytes: Int) -> Bool {
    lock.lock()
    defer { lock.unlock() }
    return budget.take(bytes)
  }

  func giveBack(_ bytes: Int) {
    lock.lock()
    defer { lock.unlock() }
    budget.giveBack(bytes)
  }
}

/// Buffers of one huge page each through which pages are written, as many as threads write at a time; none while no job runs.
final class WriteBuffers: @unchecked Sendable {  // guarded by `lock`
  private let lock = PlainMutex()
  private let budget: LockedMemory
  private let geometry: PageGeometry
  private let hasher: PageHasher
  private var free: [LockedBuffer] = []
  private var bufferBytes: Int { geometry.bytes(inPages: geometry.hugePagePages) }

  init(budget: LockedMemory, geometry: PageGeometry, hasher: PageHasher) {
    self.budget = budget
    self.geometry = geometry
    self.hasher = hasher
  }

  deinit { release() }

  /// - Returns: nil where the budget, or the machine, has none.
  func take() -> LockedBuffer? {
    lock.lock()
    defer { lock.unlock() }
    if let buffer = free.popLast() { return buffer }
    guard budget.take(bufferBytes) else { return nil }
    do throws(SystemError) {
      return try LockedBuffer(pages: geometry.hugePagePages, geometry: geometry, hasher: hasher)
    } catch {
      budget.giveBack(bufferBytes)
      return nil
    }
  }

  func giveBack(_ buffer: LockedBuffer) {
    lock.lock()
    defer { lock.unlock() }
    free.append(buffer)
  }

  /// Gives their memory back.
  func release() {
    lock.lock()
    defer { lock.unlock() }
    budget.giveBack(free.count * bufferBytes)
    free.removeAll()
  }
}
