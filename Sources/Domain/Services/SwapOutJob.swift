/// `out`: writes staged pages to the swap file, many scattered pages to one run of slots, and frees them.
package struct SwapOutJob<Ports: TenantPorts>: SteppedJob {
  package private(set) var pages = 0
  private let memory: TenantMemory<Ports>
  private var cursor = PageIndex(0)
  private var checksums: [PageChecksum] = []

  package init(memory: TenantMemory<Ports>) { self.memory = memory }

  package mutating func step() throws(JobFailure) -> JobStep {
    let ledger = memory.ledger
    guard let batch = ledger.beginWrite(from: cursor, limit: memory.map.geometry.hugePagePages) else {
      if ledger.counts.staged == 0 { return .finished }
      if cursor > PageIndex(0) {
        cursor = PageIndex(0)
        return .again
      }
      // Either every slot is taken that the file's limit allows, or some whose reads have not ended are wanting.
      guard ledger.slotsAreUsedUp else { return .retryAfter(nanoseconds: RetryDelay.slot) }
      if ledger.dropStaleSlots(limit: memory.map.geometry.hugePagePages) { return .again }
      throw .port(PortFailure(.limitSwapFile, errorNumber: ErrorNumber.noSpace))
    }
    do throws(PortFailure) {
      // A page that is touched meanwhile may be written as anything: its record has changed then, and the slot is freed.
      checksums.removeAll(keepingCapacity: true)
      for page in batch.pages { checksums.append(memory.ports.staging.checksum(of: page)) }
      try memory.ports.file.write(batch.pages, to: batch.slots)
      try memory.ports.file.makeDurable()
    } catch {
      ledger.writeFailed(batch)
      throw .port(error)
    }
    pages += memory.ports.gate.exclusive { ledger.writeDurable(batch, checksums: checksums) }
    if let last = batch.pages.last { cursor = last + 1 }
    do throws(PortFailure) {
      _ = try memory.releaseStaging(limit: memory.map.geometry.hugePagePages)
    } catch { throw .port(error) }
    return .again
  }

  package mutating func abort() {}
}
