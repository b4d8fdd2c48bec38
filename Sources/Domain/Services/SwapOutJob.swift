/// `out`: writes staged pages to the swap file, many scattered pages to one run of slots, and frees them.
package struct SwapOutJob<Ports: TenantPorts>: SteppedJob {
  package private(set) var pages = 0
  private let memory: TenantMemory<Ports>
  private var cursor = PageIndex(0)

  package init(memory: TenantMemory<Ports>) { self.memory = memory }

  package mutating func step() throws(JobFailure) -> JobStep {
    let ledger = memory.ledger
    guard let batch = ledger.beginWrite(from: cursor, limit: memory.map.geometry.hugePagePages) else {
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
    cursor = batch.pages.last.map { $0 + 1 } ?? cursor
    let other = ledger.beginWrite(from: cursor, limit: memory.map.geometry.hugePagePages)
    cursor = other?.pages.last.map { $0 + 1 } ?? cursor
    let half = Half(memory: memory)
    let (first, second) = memory.ports.helper.both {
      half.write(batch)
    } _: {
      other.map { half.write($0) }
    }
    try finish([first, second].compactMap { $0 })
    return .again
  }

  /// After a failed flush nothing is sure that was written since the last good one: so there is one for all that was written.
  private mutating func finish(_ written: [Half.Written]) throws(JobFailure) {
    var failure = written.lazy.compactMap(\.failure).first
    var durable = written.filter { $0.failure == nil }
    if !durable.isEmpty {
      do throws(PortFailure) { try memory.ports.file.makeDurable() } catch {
        failure = failure ?? error
        durable = []
      }
    }
    for half in written {
      if durable.contains(where: { $0.batch == half.batch }) {
        pages += memory.ports.gate.exclusive { memory.ledger.writeDurable(half.batch, checksums: half.checksums) }
      } else {
        memory.ledger.writeFailed(half.batch)
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

    /// A page that is touched meanwhile may be written as anything: its record has changed then, and the slot is freed.
    func write(_ batch: WriteBatch) -> Written {
      var written = Written(batch: batch)
      do throws(PortFailure) {
        // What the step before has written: the disk is at work for the other one meanwhile.
        _ = try memory.releaseStaging(limit: 2 * memory.map.geometry.hugePagePages)
        written.checksums = try memory.ports.file.write(batch.pages, to: batch.slots)
      } catch { written.failure = error }
      return written
    }
  }

  package mutating func abort() {}
}
