/// `trim`: drops staged pages that are zero, or equal to what the swap file still holds. Neither needs the disk: a page's
/// checksum tells whether it has changed.
package struct TrimJob<Ports: TenantPorts>: SteppedJob {
  /// Pages compared in one step.
  package static var pagesPerStep: Int { 1024 }

  package private(set) var zeroPages = 0
  package private(set) var unchangedPages = 0
  package private(set) var examinedPages = 0
  package var pages: Int { zeroPages + unchangedPages }
  private let memory: TenantMemory<Ports>
  private var cursor = PageIndex(0)
  private var examined: [PageRange] = []
  private var zero: [PageIndex] = []
  private var unchanged: [PageIndex] = []

  package init(memory: TenantMemory<Ports>) { self.memory = memory }

  package mutating func step() throws(JobFailure) -> JobStep {
    zero.removeAll(keepingCapacity: true)
    unchanged.removeAll(keepingCapacity: true)
    examined.removeAll(keepingCapacity: true)
    var compared = 0
    let end = PageIndex(memory.map.pageCount)
    while compared < Self.pagesPerStep,
      let run = memory.ledger.nextStaged(from: cursor, before: end, limit: Self.pagesPerStep - compared)
    {
      for page in run { examine(page) }
      examined.append(run)
      compared += run.count
      cursor = run.upperBound
    }
    guard compared > 0 else { return .finished }
    examinedPages += compared
    drop()
    do throws(PortFailure) {
      _ = try memory.releaseStaging(limit: Self.pagesPerStep)
    } catch { throw .port(error) }
    return .again
  }

  package mutating func abort() {}

  /// Without the gate: a staged page's content does not change while it is staged. One that is touched meanwhile may read
  /// as anything here, which `drop` finds out.
  private mutating func examine(_ page: PageIndex) {
    let record = memory.ledger.record(of: page)
    if memory.ports.staging.isZero(page) {
      zero.append(page)
    } else if record.slotIsValid, memory.ports.staging.checksum(of: page) == memory.ledger.checksum(of: page) {
      unchanged.append(page)
    }
  }

  private mutating func drop() {
    memory.ports.gate.exclusive {
      for page in zero where memory.ledger.dropZero(page) { zeroPages += 1 }
      for page in unchanged where memory.ledger.dropUnchanged(page) { unchangedPages += 1 }
      // Looking at a copy that was given back meanwhile has filled its hole in staging again.
      for run in examined { memory.ledger.copyAbandoned(run) }
    }
  }
}
