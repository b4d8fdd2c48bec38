internal import Domain
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
  private let hasher: PageHasher
  private var small: [LockedBuffer] = []
  private var large: [LockedBuffer] = []
  private var largeBytes: Int { geometry.bytes(inPages: geometry.hugePagePages) }
  private var smallPages: Int { max(1, (64 << 10) >> geometry.pageShift) }
  /// More than a tenant has threads.
  private static let threads = 16

  /// - Parameter budget: of all tenants' locked memory, from which the large ones are taken; nil, and there are none.
  init(geometry: PageGeometry, hasher: PageHasher, budget: LockedMemory? = nil) {
    self.budget = budget
    self.geometry = geometry
    self.hasher = hasher
    small.reserveCapacity(Self.threads)
    large.reserveCapacity(Self.threads)
  }

  deinit { releaseLarge() }

  /// Lends a buffer, which nobody else has meanwhile.
  ///
  /// - Parameter pages: how many are to be copied. What is lent has one at least, and may be shorter than asked.
  /// - Throws: what `body` throws; ENOMEM where there is no memory.
  func with<Result>(
    pages: Int, for operation: PortOperation, _ body: (LockedBuffer) throws(PortFailure) -> Result
  ) throws(PortFailure) -> Result {
    let buffer = try take(pages: pages, for: operation)
    defer { giveBack(buffer) }
    return try body(buffer)
  }

  /// The same, until `giveBack`.
  func take(pages: Int, for operation: PortOperation) throws(PortFailure) -> LockedBuffer {
    lock.lock()
    defer { lock.unlock() }
    if pages > smallPages, let buffer = large.popLast() ?? makeLarge() { return buffer }
    if let buffer = small.popLast() { return buffer }
    do throws(SystemError) {
      return try LockedBuffer(pages: smallPages, geometry: geometry, hasher: hasher, isLocked: false)
    } catch { throw PortFailure(operation, errorNumber: ENOMEM) }
  }

  func giveBack(_ buffer: LockedBuffer) {
    lock.lock()
    defer { lock.unlock() }
    if buffer.capacityPages > smallPages { large.append(buffer) } else { small.append(buffer) }
  }

  private func makeLarge() -> LockedBuffer? {
    guard let budget, budget.take(largeBytes) else { return nil }
    do throws(SystemError) {
      return try LockedBuffer(pages: geometry.hugePagePages, geometry: geometry, hasher: hasher)
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
