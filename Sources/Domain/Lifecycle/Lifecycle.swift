/// A tenant's state as PROTOCOL.md names it.
package enum TenantState: String, CaseIterable, Codable, Sendable {
  case ready = "Ready"
  case pending = "Pending"
  case trimInProgress = "TrimInProgress"
  case swapOutInProgress = "SwapOutInProgress"
  case active = "Active"
  case swapInInProgress = "SwapInInProgress"
  case failed = "Failed"
}

/// What clients ask for. `unregister` is a `disable` after which the tenant is forgotten.
package enum TenantCommand: String, CaseIterable, Sendable {
  case enable, trim, out, disable, unregister
}

/// A long piece of work on one tenant; at most one runs at a time.
package enum TenantJob: String, CaseIterable, Sendable {
  case enable, trim, out, disable
}

/// How a job ended.
package enum JobEnd: Equatable, Sendable {
  case finished
  /// Another command ended it.
  case aborted
  /// - Parameter unchanged: nothing was done, so the state before the job holds again.
  case failed(unchanged: Bool)
}

/// What is to happen on a command.
package enum LifecycleDecision: Equatable, Sendable {
  case start(TenantJob)
  /// End the running job first, which answers those who wait for it with `aborted`, then ask again.
  case abortThenAskAgain
  /// The running job does what is asked for.
  case join
  /// Ask again when the running job has ended.
  case waitThenAskAgain
  /// It is so already.
  case nothingToDo
  case refuse(wrongState: TenantState)
}

/// The life of a tenant as a state machine: which command may come when, and what it leaves behind. It holds no memory of
/// pages; it is told what it must know of them.
package struct Lifecycle: Equatable, Sendable {
  package private(set) var job: TenantJob?
  /// Beside the running job: the state before it.
  package private(set) var settled: TenantState

  package init(settled: TenantState = .ready, job: TenantJob? = nil) {
    self.settled = settled
    self.job = job
  }

  /// What the next worker makes of an earlier one's: the job that it died in is to be begun anew.
  ///
  /// An `enable` may have moved pages before that. "Ready" would let them be forgotten, should it fail the second time.
  package init(settled: TenantState, interrupted job: TenantJob?) {
    self.settled = job == .enable && settled == .ready ? .pending : settled
  }

  /// While `enable` runs, this is the state before it.
  package var state: TenantState {
    switch job {
    case nil, .enable: settled
    case .trim: .trimInProgress
    case .out: .swapOutInProgress
    case .disable: .swapInInProgress
    }
  }

  /// - Parameters:
  ///   - hasStagedPages: whether any page is in staging memory, which decides whether `out` may follow a failure.
  ///   - hasWaste: whether the swap file is still being emptied gradually, which a `disable` ends at once.
  package func decide(_ command: TenantCommand, hasStagedPages: Bool, hasWaste: Bool = false) -> LifecycleDecision {
    if job == .enable { return .waitThenAskAgain }
    switch command {
    case .enable: return job == nil ? .start(.enable) : .abortThenAskAgain
    case .disable, .unregister:
      switch job {
      case .disable: return .join
      case .trim, .out: return .abortThenAskAgain
      case nil, .enable:
        let isDone = settled == .ready && !(hasWaste && command == .disable)
        return isDone ? .nothingToDo : .start(.disable)
      }
    case .trim: return job == nil && settled == .pending ? .start(.trim) : .refuse(wrongState: state)
    case .out:
      let fits = settled == .pending || settled == .failed && hasStagedPages
      return job == nil && fits ? .start(.out) : .refuse(wrongState: state)
    }
  }

  package mutating func started(_ job: TenantJob) {
    precondition(self.job == nil, "a tenant's job starts while another runs")
    self.job = job
  }

  package mutating func ended(_ end: JobEnd) {
    guard let job else { preconditionFailure("a job ends that does not run") }
    self.job = nil
    switch (end, job) {
    case (.finished, .enable), (.finished, .trim): settled = .pending
    case (.finished, .out): settled = .active
    case (.finished, .disable): settled = .ready
    // What is left in staging can be written out, trimmed, or moved again.
    case (.aborted, _): settled = .pending
    case (.failed(unchanged: true), _): break
    case (.failed(unchanged: false), _): settled = .failed
    }
  }
}
