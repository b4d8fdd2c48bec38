/// `trim`: drops staged pages that are zero, or equal to what the swap file still holds. Neither needs the disk: a page's
/// checksum tells whether it has changed. Copies are read only for that, or where an earlier worker has made them: whether one
/// is zero was seen as it was made.
package struct TrimJob<Ports: TenantPorts>: SteppedJob {
  /// How far a step looks, in pages of the tenant.
  package static var pagesPerStep: Int { 1 << 14 }
  /// Pages that are compared before what was found is dropped.
  package static var pagesPerLook: Int { 512 }

  package private(set) var zeroPages = 0
  package private(set) var unchangedPages = 0
  package private(set) var examinedPages = 0
  package var pages: Int { zeroPages + unchangedPages }
  private let memory: TenantMemory<Ports>
  private var stepEnd = PageIndex(0)

  package init(memory: TenantMemory<Ports>) { self.memory = memory }

  package mutating func step() throws(JobFailure) -> JobStep {
    if stepEnd == PageIndex(0) { memory.ledger.restartLooks() }
    let end = PageIndex(memory.map.pageCount)
    guard let next = memory.ledger.nextStaged(from: stepEnd, before: end, limit: 1) else {
      do throws(PortFailure) {
        let released = try memory.releaseStaging(limit: Self.pagesPerStep)
        return released < Self.pagesPerStep ? .finished : .again
      } catch { throw .port(error) }
    }
    stepEnd = min(next.lowerBound + Self.pagesPerStep, end)
    // What is dropped is given back by one hand only: two who punch one memfd stand in each other's way. Both look at the
    // next pages whenever they have time.
    let first = Hand(memory: memory, end: stepEnd, givesBack: true)
    let second = Hand(memory: memory, end: stepEnd, givesBack: false)
    let (mine, others) = memory.ports.helper.both {
      first.work()
    } _: {
      second.work()
    }
    for found in [mine, others] {
      zeroPages += found.zeroPages
      unchangedPages += found.unchangedPages
      examinedPages += found.examinedPages
    }
    if let failure = mine.failure ?? others.failure { throw .port(failure) }
    return .again
  }

  package mutating func abort() {}

  /// One pair of hands.
  private struct Hand: Sendable {
    struct Found: Sendable {
      var zeroPages = 0
      var unchangedPages = 0
      var examinedPages = 0
      var failure: PortFailure?
    }

    let memory: TenantMemory<Ports>
    let end: PageIndex
    let givesBack: Bool

    func work() -> Found {
      var found = Found()
      do throws(PortFailure) {
        while case let look = memory.ledger.nextToTrim(before: end, limit: pagesPerLook), look.count > 0 {
          try trim(look, &found)
          if givesBack { _ = try memory.releaseStaging(limit: pagesPerLook) }
        }
      } catch { found.failure = error }
      return found
    }

    private func trim(_ look: TrimLook, _ found: inout Found) throws(PortFailure) {
      var (zero, unchanged): ([PageIndex], [PageIndex]) = (look.zero, [])
      // Without the gate: a staged page's content does not change while it is staged. One that is touched meanwhile may read
      // as anything here, which is found out below.
      for run in look.unread {
        try memory.ports.staging.examine(run) { page, content in
          if content.isZero {
            zero.append(page)
          } else if memory.ledger.record(of: page).slotIsValid, content.checksum == memory.ledger.checksum(of: page) {
            unchanged.append(page)
          }
        }
      }
      found.examinedPages += look.count
      memory.ports.gate.held(.changing) {
        for page in zero where memory.ledger.dropZero(page) { found.zeroPages += 1 }
        for page in unchanged where memory.ledger.dropUnchanged(page) { found.unchangedPages += 1 }
      }
    }
  }
}
