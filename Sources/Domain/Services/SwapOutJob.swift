/// `out`: writes staged pages to the swap file, many scattered pages to one run of slots, and frees them.
package struct SwapOutJob<Ports: TenantPorts>: SteppedJob {
  package private(set) var pages = 0
  private let memory: TenantMemory<Ports>
  private var cursor = PageIndex(0)
  private var sizer = StepSizer()

  package init(memory: TenantMemory<Ports>) { self.memory = memory }

  package mutating func step() throws(JobFailure) -> JobStep {
    let start = memory.ports.clock.nowNanoseconds
    let (batches, failure) = takeBatches(sizer.batches)
    guard !batches.isEmpty else {
      if let failure { throw .port(failure) }
      return try goOn()
    }
    let half = Half(memory: memory)
    let (first, second) = memory.ports.helper.both(batches) { half.write($0) }
    try finish(first + second, failure)
    sizer.took(nanoseconds: memory.ports.clock.nowNanoseconds - start)
    return .again
  }

  /// The next batches, with the disk space for them: taken while nobody writes, it does not keep the writes of one from those
  /// of the other.
  private mutating func takeBatches(_ most: Int) -> ([WriteBatch], PortFailure?) {
    var batches: [WriteBatch] = []
    while batches.count < most,
      let batch = memory.ledger.beginWrite(from: cursor, limit: memory.map.geometry.hugePagePages)
    {
      do throws(PortFailure) { try memory.ports.file.allocate(batch.slots) } catch {
        memory.ledger.writeFailed(batch)
        return (batches, error)
      }
      cursor = batch.pages.last.map { $0 + 1 } ?? cursor
      batches.append(batch)
    }
    return (batches, nil)
  }

  /// Nothing was found to be written.
  private mutating func goOn() throws(JobFailure) -> JobStep {
    let ledger = memory.ledger
    if ledger.counts.staged == 0 {
      do throws(PortFailure) { _ = try memory.releaseStaging(limit: .max) } catch { throw .port(error) }
      return .finished
    }
    if cursor > PageIndex(0) {
      cursor = PageIndex(0)
      return .again
    }
    // Either every slot is taken that the file's limit allows, or some whose reads have not ended are wanting.
    guard ledger.slotsAreUsedUp else { return .retryAfter(nanoseconds: RetryDelay.slot) }
    if ledger.dropStaleSlots(limit: memory.map.geometry.hugePagePages) { return .again }
    throw .port(PortFailure(.limitSwapFile, errorNumber: ErrorNumber.noSpace))
  }

  /// After a failed flush nothing is sure that was written since the last good one: so there is one for all that was written.
  private mutating func finish(_ written: [Half.Written], _ earlier: PortFailure?) throws(JobFailure) {
    var failure = earlier ?? written.lazy.compactMap(\.failure).first
    var isDurable = true
    // In any case: until then it is not over.
    do throws(PortFailure) { try memory.ports.file.makeDurable() } catch {
      isDurable = false
      failure = failure ?? error
    }
    for one in written {
      if isDurable, one.failure == nil {
        pages += memory.ports.gate.held(.changing) { memory.ledger.writeDurable(one.batch, checksums: one.checksums) }
      } else {
        memory.ledger.writeFailed(one.batch)
      }
    }
    if let failure { throw .port(failure) }
  }

  /// One pair of hands.
  private struct Half: Sendable {
    struct Written: Sendable {
      let batch: WriteBatch
      var checksums: [PageChecksum] = []
      var failure: PortFailure?
    }

    let memory: TenantMemory<Ports>

    /// Nothing more is written once a write has failed.
    func write(_ next: () -> WriteBatch?) -> [Written] {
      var all: [Written] = []
      var failure: PortFailure?
      while let batch = next() {
        var written = Written(batch: batch)
        if failure == nil {
          do throws(PortFailure) { written.checksums = try write(batch) } catch { failure = error }
        }
        written.failure = failure
        all.append(written)
      }
      return all
    }

    /// A page that is touched meanwhile may be written as anything: its record has changed then, and the slot is freed.
    private func write(_ batch: WriteBatch) throws(PortFailure) -> [PageChecksum] {
      let checksums = try memory.ports.file.write(batch.pages, to: batch.slots)
      // What the step before has written, while the disk is at work.
      _ = try memory.releaseStaging(limit: 2 * memory.map.geometry.hugePagePages)
      return checksums
    }
  }

  /// How many batches make a step: who ends the job, or asks how far it is, waits for no more than that; while two who
  /// write wait for each other at each step's end, and the disk for them.
  private struct StepSizer {
    private(set) var batches = 2

    mutating func took(nanoseconds: UInt64) {
      if nanoseconds < 25_000_000 { batches = min(batches * 2, 32) }
      if nanoseconds > 100_000_000 { batches = max(batches / 2, 2) }
    }
  }

  package mutating func abort() {}
}
