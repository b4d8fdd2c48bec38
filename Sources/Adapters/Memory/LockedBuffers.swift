package import Domain
internal import Glibc

/// Page-aligned memory of our own that is not swapped out itself, into which pages are read and checked.
package final class LockedBuffer: ReadBuffer, @unchecked Sendable {  // one thread at a time has it
  package let capacityPages: Int
  let address: UnsafeMutableRawPointer
  private let mapping: MemoryMapping
  private let geometry: PageGeometry
  private let hasher: PageHasher

  /// - Parameter isLocked: else it may be swapped out under memory pressure.
  package init(pages: Int, geometry: PageGeometry, hasher: PageHasher, isLocked: Bool = true) throws(SystemError) {
    // In one piece, if it is a huge page: a disk takes a request in so many pieces, and works at each.
    mapping = try MemoryMapping(
      anonymousBytes: geometry.bytes(inPages: pages), inPagesOf: geometry.bytes(inPages: geometry.hugePagePages),
      operation: "mapping a read buffer of \(pages) pages")
    address = mapping.address
    capacityPages = pages
    self.geometry = geometry
    self.hasher = hasher
    // Where the limit does not allow it, the buffer still works.
    if isLocked { mlock(address, mapping.count) }
  }

  package func checksum(at index: Int) -> PageChecksum { pageChecksum(page(index), geometry, hasher) }

  func bytes(_ pages: Int) -> UnsafeMutableRawBufferPointer {
    UnsafeMutableRawBufferPointer(start: address, count: geometry.bytes(inPages: pages))
  }

  func page(_ index: Int) -> UnsafeMutableRawPointer { address + geometry.bytes(inPages: index) }
}

/// The daemon's one budget of locked memory, for what is on its way.
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
