package import Domain
internal import Glibc

/// Reads a tenant's slots ahead of swap-in, and checks them, on threads that exist while reads are wanted.
package final class ReadAheadThreads: ReadAhead, @unchecked Sendable {
  // used by the tenant's one job; the queues are shared
  package let spareBuffer: LockedBuffer
  private let file: SwapFileStore
  private let budget: LockedMemory
  private let geometry: PageGeometry
  private let hasher: PageHasher
  private var free: [LockedBuffer] = []
  private var buffers = 0
  private var budgetedBytes = 0
  private var underWay = 0
  private var worker: Worker?

  private struct Request: Sendable {
    let run: FileRun
    let buffer: LockedBuffer
  }

  private struct Worker {
    let threads: [Thread]
    let requests: BoundedQueue<Request>
    let completions: BoundedQueue<ReadCompletion<LockedBuffer>>
  }

  /// One being installed, the others being read or waiting.
  private static let buffersPerTenant = 5
  /// While one hashes, and while the disk's queue would be empty between two reads, another reads.
  private static let readers = 2
  private static let smallBufferPages = 16

  package init(file: SwapFileStore, budget: LockedMemory, geometry: PageGeometry, hasher: PageHasher)
    throws(SystemError)
  {
    self.file = file
    self.budget = budget
    self.geometry = geometry
    self.hasher = hasher
    spareBuffer = try LockedBuffer(pages: 1, geometry: geometry, hasher: hasher)
  }

  deinit {
    releaseAll()
    budget.giveBack(budgetedBytes)  // of buffers that were never given back: their holders are gone as well
  }

  package func takeBuffer() -> LockedBuffer? {
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

  package func giveBack(_ buffer: LockedBuffer) { free.append(buffer) }

  package func start(_ run: FileRun, into buffer: LockedBuffer) {
    underWay += 1
    let request = Request(run: run, buffer: buffer)
    if startWorker(), let worker, worker.requests.offer(request) { return }
    // No thread to be had: read it here. Slower, and right.
    spareCompletions.append(Self.read(request, from: file))
  }

  package func nextCompletion() -> ReadCompletion<LockedBuffer>? {
    if let completion = spareCompletions.popLast() {
      underWay -= 1
      return completion
    }
    guard underWay > 0, let completion = worker?.completions.take() else {
      releaseAll()
      return nil
    }
    underWay -= 1
    return completion
  }

  private var spareCompletions: [ReadCompletion<LockedBuffer>] = []
  private var bufferBytes: Int { geometry.bytes(inPages: geometry.hugePagePages) }

  private func startWorker() -> Bool {
    guard worker == nil else { return true }
    let requests = BoundedQueue<Request>(capacity: Self.buffersPerTenant)
    let completions = BoundedQueue<ReadCompletion<LockedBuffer>>(capacity: Self.buffersPerTenant)
    let file = file
    var threads: [Thread] = []
    for _ in 0..<Self.readers {
      do throws(SystemError) {
        threads.append(
          try Thread(name: "read-ahead") {
            while let request = requests.take() { _ = completions.offer(Self.read(request, from: file)) }
          })
      } catch { break }
    }
    if threads.isEmpty { return false }
    worker = Worker(threads: threads, requests: requests, completions: completions)
    return true
  }

  private static func read(_ request: Request, from file: SwapFileStore) -> ReadCompletion<LockedBuffer> {
    let run = request.run
    do throws(PortFailure) {
      try file.read(run.slots, into: request.buffer)
      for piece in run.pieces {
        request.buffer.computeChecksums(run.index(of: piece.lowerBound)..<run.index(of: piece.upperBound))
      }
      return ReadCompletion(run: run, buffer: request.buffer, failure: nil)
    } catch { return ReadCompletion(run: run, buffer: request.buffer, failure: error) }
  }

  /// Nothing is under way: threads, buffers and budget are given back.
  private func releaseAll() {
    worker?.requests.close()
    for thread in worker?.threads ?? [] { thread.join() }
    worker = nil
    guard free.count == buffers else { return }  // one is still being installed from
    budget.giveBack(budgetedBytes)
    free = []
    buffers = 0
    budgetedBytes = 0
  }
}
