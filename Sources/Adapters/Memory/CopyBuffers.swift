package import Domain
internal import Glibc

/// Memory of one tenant's through which pages go on their way between its files and the guest, as many pieces as threads copy
/// at a time: small ones, for faults and where there is nothing else; and of one huge page each, while a job runs.
///
/// Copying through memory that stays in the processor's cache costs less than mapping staging memory would: a mapped page
/// costs a fault on the way in, and interrupts of all processors when its copy is given back.
package final class CopyBuffers: @unchecked Sendable {  // guarded by `lock`
  private let lock = PlainMutex()
  private let budget: LockedMemory?
  private let geometry: PageGeometry
  private var small: [MemoryMapping] = []
  private var large: [MemoryMapping] = []
  private var largeBytes: Int { geometry.bytes(inPages: geometry.hugePagePages) }
  private var smallBytes: Int { max(Self.smallestBytes, geometry.pageBytes) }
  private static let smallestBytes = 64 << 10
  /// More than a tenant has threads.
  private static let threads = 16

  /// - Parameter budget: of all tenants' locked memory, from which the large ones are taken; nil, and there are none.
  package init(geometry: PageGeometry, budget: LockedMemory? = nil) {
    self.budget = budget
    self.geometry = geometry
    small.reserveCapacity(Self.threads)
    large.reserveCapacity(Self.threads)
  }

  deinit { releaseLarge() }

  /// Lends a buffer, which nobody else has meanwhile. In one piece of memory, if it is a large one: a disk takes a request in
  /// as many pieces as its memory lies in, and works at each.
  ///
  /// - Parameter bytes: how much is to be copied. What is lent has a page at least, and may be shorter than asked.
  /// - Throws: what `body` throws; ENOMEM where there is no memory.
  func with<Result>(
    bytes: Int, for operation: PortOperation,
    _ body: (UnsafeMutableRawBufferPointer) throws(PortFailure) -> Result
  ) throws(PortFailure) -> Result {
    let buffer = try take(isLarge: bytes > smallBytes, operation)
    defer { giveBack(buffer) }
    return try body(UnsafeMutableRawBufferPointer(start: buffer.address, count: buffer.count))
  }

  private func take(isLarge: Bool, _ operation: PortOperation) throws(PortFailure) -> MemoryMapping {
    lock.lock()
    defer { lock.unlock() }
    if isLarge, let buffer = large.popLast() ?? makeLarge() { return buffer }
    if let buffer = small.popLast() { return buffer }
    do throws(SystemError) {
      return try MemoryMapping(anonymousBytes: smallBytes, operation: operation.rawValue)
    } catch { throw PortFailure(operation, errorNumber: ENOMEM) }
  }

  private func giveBack(_ buffer: MemoryMapping) {
    lock.lock()
    defer { lock.unlock() }
    if buffer.count > smallBytes { large.append(buffer) } else { small.append(buffer) }
  }

  private func makeLarge() -> MemoryMapping? {
    guard let budget, budget.take(largeBytes) else { return nil }
    do throws(SystemError) {
      let buffer = try MemoryMapping(
        anonymousBytes: largeBytes, inPagesOf: largeBytes, operation: "mapping a buffer of a huge page")
      // Where the limit does not allow it, the buffer still works; it may be swapped out under memory pressure.
      mlock(buffer.address, buffer.count)
      return buffer
    } catch {
      budget.giveBack(largeBytes)
      return nil
    }
  }

  /// Gives the large ones' memory back: no job runs.
  package func releaseLarge() {
    lock.lock()
    defer { lock.unlock() }
    budget?.giveBack(large.count * largeBytes)
    large.removeAll(keepingCapacity: true)
  }
}
