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
  /// How many runs of pages the last step has dropped: as many punches are due.
  private var droppedRuns = 0
  /// A punch costs as much time as looking at so many pages (measured).
  private static var pagesPerPunch: Int { 6 }

  package init(memory: TenantMemory<Ports>) { self.memory = memory }

  package mutating func step() throws(JobFailure) -> JobStep {
    // What the step before has dropped is given back meanwhile, by one hand only: two who punch one memfd stand in each
    // other's way. Who gives back looks at as many pages as there is time for.
    let share = max(0, Self.pagesPerStep - Self.pagesPerPunch * droppedRuns) / 2
    let (others, mine) = (takeRuns(Self.pagesPerStep - share), takeRuns(share))
    let isLast = others.isEmpty
    let (memory, search) = (memory, Search(memory: memory))
    let ((failure, first), second) = memory.ports.helper.both {
      (Self.release(memory, all: isLast), search.trim(mine))
    } _: {
      search.trim(others)
    }
    droppedRuns = first.droppedRuns + second.droppedRuns
    for found in [first, second] {
      zeroPages += found.zeroPages
      unchangedPages += found.unchangedPages
    }
    examinedPages += (mine + others).reduce(0) { $0 + $1.count }
    if let failure = failure ?? first.failure ?? second.failure { throw .port(failure) }
    return isLast ? .finished : .again
  }

  package mutating func abort() {}

  private mutating func takeRuns(_ count: Int) -> [PageRange] {
    var runs: [PageRange] = []
    var left = count
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
      var droppedRuns = 0
      var failure: PortFailure?
    }

    let memory: TenantMemory<Ports>

    func trim(_ runs: [PageRange]) -> Found {
      var found = Found()
      if runs.isEmpty { return found }
      var (zero, unchanged): ([PageIndex], [PageIndex]) = ([], [])
      var droppedEnd: PageIndex?
      // Without the gate: a staged page's content does not change while it is staged. One that is touched meanwhile may read
      // as anything here, which is found out below.
      do throws(PortFailure) {
        for run in runs {
          try memory.ports.staging.examine(run) { page, content in
            if content.isZero {
              zero.append(page)
            } else if memory.ledger.record(of: page).slotIsValid, content.checksum == memory.ledger.checksum(of: page) {
              unchanged.append(page)
            } else {
              return
            }
            if page != droppedEnd { found.droppedRuns += 1 }
            droppedEnd = page + 1
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
