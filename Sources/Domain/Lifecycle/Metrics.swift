/// How a fault was served.
package enum FaultSource: Equatable, Sendable {
  case file, staging, zero
  /// The page was there when the fault was served.
  case redundant
}

/// Faults served, and pages removed, since the last `enable`.
package struct FaultCounters: Equatable, Sendable {
  package var copiedFromFile = 0
  package var copiedFromStaging = 0
  package var zeroed = 0
  package var redundant = 0
  /// By the tenant (a balloon, say); a page that is removed twice counts twice.
  package var removed = 0
  /// Of faults.
  package var total: Int { copiedFromFile + copiedFromStaging + zeroed + redundant }

  package init() {}

  package mutating func count(_ source: FaultSource?) {
    switch source {
    case .file: copiedFromFile += 1
    case .staging: copiedFromStaging += 1
    case .zero: zeroed += 1
    case .redundant: redundant += 1
    case nil: break
    }
  }
}

/// Where a tenant's pages are, as the ledger counts them.
package struct PageCounts: Equatable, Sendable {
  package var staged = 0
  /// Pages whose only content is in the swap file.
  package var file = 0
  package var unreadable = 0
  /// Not unreadable any more, while processes may still fail at them.
  package var unhealed = 0
  /// Staged copies that nobody needs, still holding memory.
  package var releasable = 0
  package var discarding = 0
  /// Runs of slots that are being read.
  package var pinnedRuns = 0
  package var faults = FaultCounters()

  /// Whether the guest memfd holds everything.
  package var allReturned: Bool { staged == 0 && file == 0 && unreadable == 0 }
}

/// Pages handled and time taken by the last or the running operation.
package struct StateTransition: Equatable, Sendable {
  package var pages = 0
  package var examinedPages = 0
  package var nanoseconds: UInt64 = 0

  package init(pages: Int = 0, examinedPages: Int = 0, nanoseconds: UInt64 = 0) {
    self.pages = pages
    self.examinedPages = examinedPages
    self.nanoseconds = nanoseconds
  }
}
