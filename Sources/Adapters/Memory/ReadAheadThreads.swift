package import Domain

/// Reads a tenant's slots ahead of swap-in, on threads that exist while reads are wanted.
package final class ReadAheadThreads: ReadAhead, @unchecked Sendable {  // its fields are guarded by `lock`
  package let spareBuffer: LockedBuffer
  private let lock = PlainMutex()
  private let budget: LockedMemory
  private let geometry: PageGeometry
  private let hasher: PageHasher
  private let threads: DiskThreads<Request, ReadCompletion<LockedBuffer>>
  private var free: [LockedBuffer] = []
  private var buffers = 0
  private var budgetedBytes = 0

  private struct Request: Sendable {
    let run: FileRun
    let buffer: LockedBuffer
  }

  /// Two being installed, two being read, and two waiting.
  private static let buffersPerTenant = 6
  /// The disk's queue is not empty between two reads.
  private static let readers = 2
  private static let smallBufferPages = 16

  package init(file: SwapFileStore, budget: LockedMemory, geometry: PageGeometry, hasher: PageHasher)
    throws(SystemError)
  {
    self.budget = budget
    self.geometry = geometry
    self.hasher = hasher
    spareBuffer = try LockedBuffer(pages: 1, geometry: geometry, hasher: hasher)
    threads = DiskThreads(name: "read-ahead", count: Self.readers) { request in
      var failure: PortFailure?
      do throws(PortFailure) { try file.read(request.run.slots, into: request.buffer) } catch { failure = error }
      return ReadCompletion(run: request.run, buffer: request.buffer, failure: failure)
    }
  }

  deinit {
    threads.end()
    budget.giveBack(budgetedBytes)  // of buffers that were never given back, too: their holders are gone
  }

  package func takeBuffer() -> LockedBuffer? {
    lock.lock()
    defer { lock.unlock() }
    if let buffer = free.popLast() { return buffer }
    guard buffers < Self.buffersPerTenant else { return nil }
    let isBudgeted = budget.take(bufferBytes)
    // Whatever others hold of the budget, each tenant has one buffer, if a small one: swap-in always goes on.
    guard isBudgeted || buffers == 0 else { return nil }
    do throws(SystemError) {
      let pages = isBudgeted ? geometry.hugePagePages : min(Self.smallBufferPages, geometry.hugePagePages)
      let buffer = try LockedBuffer(pages: pages, geometry: geometry, hasher: hasher)
      buffers += 1
      budgetedBytes += isBudgeted ? bufferBytes : 0
      return buffer
    } catch {
      if isBudgeted { budget.giveBack(bufferBytes) }
      return nil
    }
  }

  package func giveBack(_ buffer: LockedBuffer) {
    lock.lock()
    defer { lock.unlock() }
    free.append(buffer)
  }

  package func start(_ run: FileRun, into buffer: LockedBuffer) { threads.start(Request(run: run, buffer: buffer)) }

  package func nextCompletion() -> ReadCompletion<LockedBuffer>? { threads.next() }

  package func rest() {
    threads.end()
    lock.lock()
    defer { lock.unlock() }
    guard free.count == buffers else { return }  // one is still being installed from
    budget.giveBack(budgetedBytes)
    (free, buffers, budgetedBytes) = ([], 0, 0)
  }

  private var bufferBytes: Int { geometry.bytes(inPages: geometry.hugePagePages) }
}
