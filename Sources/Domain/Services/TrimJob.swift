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

  package init(memory: TenantMemory<Ports>) { self.memory = memory }

  package mutating func step() throws(JobFailure) -> JobStep {
    let runs = takeRuns()
    // What the step before has dropped is given back meanwhile. (Two who punch one memfd stand in each other's way.)
    let (memory, search) = (memory, Search(memory: memory))
    let (failure, found) = memory.ports.helper.both {
      Self.release(memory, all: runs.isEmpty)
    } _: {
      search.trim(runs)
    }
    zeroPages += found.zeroPages
    unchangedPages += found.unchangedPages
    examinedPages += runs.reduce(0) { $0 + $1.count }
    if let failure = failure ?? found.failure { throw .port(failure) }
    return runs.isEmpty ? .finished : .again
  }

  package mutating func abort() {}

  private mutating func takeRuns() -> [PageRange] {
    var runs: [PageRange] = []
    var left = Self.pagesPerStep
    let end = PageIndex(memory.map.pageCount)
    while left > 0, let run = memory.ledger.nextStaged(from: cursor, before: end, limit: left) {
      runs.append(run)
      left -= run.count
      cursor = run.upperBound
    }
    return runs
  }

  private static func release(_ memory: TenantMemory<Ports>, all: Bool) -> PortFailure? {
    do throws(PortFailure) { _ = try memory.releaseStaging(limit: all ? .max : pagesPerStep) } catch { return error }
    return nil
  }

  private struct Search: Sendable {
    struct Found: Sendable {
      var zeroPages = 0
      var unchangedPages = 0
      var failure: PortFailure?
    }

    let memory: TenantMemory<Ports>

    func trim(_ runs: [PageRange]) -> Found {
      var found = Found()
      if runs.isEmpty { return found }
      var (zero, unchanged): ([PageIndex], [PageIndex]) = ([], [])
      // Without the gate: a staged page's content does not change while it is staged. One that is touched meanwhile may read
      // as anything here, which is found out below.
      do throws(PortFailure) {
        for run in runs {
          try memory.ports.staging.examine(run) { page, content in
            if content.isZero {
              zero.append(page)
            } else if memory.ledger.record(of: page).slotIsValid, content.checksum == memory.ledger.checksum(of: page) {
              unchanged.append(page)
            }
          }
        }
      } catch { found.failure = error }
      memory.ports.gate.exclusive {
        for page in zero where memory.ledger.dropZero(page) { found.zeroPages += 1 }
        for page in unchanged where memory.ledger.dropUnchanged(page) { found.unchangedPages += 1 }
      }
      return found
    }
  }
}
