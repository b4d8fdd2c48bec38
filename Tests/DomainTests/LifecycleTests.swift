import Domain
import Testing

/// The command table of PROTOCOL.md, written down a second time and compared with the state machine in every state.
@Suite struct LifecycleTests {
  /// What a tenant can be in: what it settled in, and the job that runs.
  struct Situation: CustomTestStringConvertible {
    let settled: TenantState
    let job: TenantJob?
    var testDescription: String { "\(settled.rawValue)\(job.map { ", \($0.rawValue) runs" } ?? "")" }
  }

  /// Every situation that commands can lead to. `trim` runs only from Pending, `out` from Pending and Failed, and
  /// there is nothing to disable in Ready.
  static let situations =
    [TenantState.ready, .pending, .active, .failed].flatMap { settled in
      [nil, .enable].map { Situation(settled: settled, job: $0) }
    } + [
      Situation(settled: .pending, job: .trim), Situation(settled: .pending, job: .out),
      Situation(settled: .failed, job: .out), Situation(settled: .pending, job: .disable),
      Situation(settled: .active, job: .disable), Situation(settled: .failed, job: .disable),
    ]

  static func lifecycle(in situation: Situation) -> Lifecycle {
    var lifecycle = Lifecycle()
    func run(_ job: TenantJob, _ end: JobEnd) {
      lifecycle.started(job)
      lifecycle.ended(end)
    }
    switch situation.settled {
    case .ready: break
    case .pending: run(.enable, .finished)
    case .active:
      run(.enable, .finished)
      run(.out, .finished)
    case .failed: run(.enable, .failed(unchanged: false))
    case .trimInProgress, .swapOutInProgress, .swapInInProgress: Issue.record("not a settled state")
    }
    if let job = situation.job { lifecycle.started(job) }
    return lifecycle
  }

  /// "While `enable` runs, `status` shows the state before it".
  static func shown(_ situation: Situation) -> TenantState {
    switch situation.job {
    case nil, .enable: situation.settled
    case .trim: .trimInProgress
    case .out: .swapOutInProgress
    case .disable: .swapInInProgress
    }
  }

  /// The table: op | from | the answer.
  static func expected(_ command: TenantCommand, _ situation: Situation, hasStagedPages: Bool) -> LifecycleDecision {
    let state = shown(situation)
    // "While `enable` runs, other commands wait for its end."
    if situation.job == .enable { return .waitThenAskAgain }
    switch (command, state) {
    // enable | any state | ends trimming, swapping out or swapping in
    case (.enable, .trimInProgress), (.enable, .swapOutInProgress), (.enable, .swapInInProgress):
      return .abortThenAskAgain
    case (.enable, .ready), (.enable, .pending), (.enable, .active), (.enable, .failed): return .start(.enable)
    // trim | Pending
    case (.trim, .pending): return .start(.trim)
    case (.trim, _): return .refuse(wrongState: state)
    // out | Pending; Failed while pages are staged
    case (.out, .pending): return .start(.out)
    case (.out, .failed): return hasStagedPages ? .start(.out) : .refuse(wrongState: .failed)
    case (.out, _): return .refuse(wrongState: state)
    // disable | any; "in Ready is no error; during disable it joins the running one"
    case (.disable, .ready), (.unregister, .ready): return .nothingToDo
    case (.disable, .swapInInProgress), (.unregister, .swapInInProgress): return .join
    case (.disable, .trimInProgress), (.unregister, .trimInProgress): return .abortThenAskAgain
    case (.disable, .swapOutInProgress), (.unregister, .swapOutInProgress): return .abortThenAskAgain
    case (.disable, .pending), (.disable, .active), (.disable, .failed): return .start(.disable)
    case (.unregister, .pending), (.unregister, .active), (.unregister, .failed): return .start(.disable)
    }
  }

  @Test("every command in every situation does what the protocol's table says", arguments: situations)
  func table(situation: Situation) {
    let lifecycle = Self.lifecycle(in: situation)
    #expect(lifecycle.state == Self.shown(situation))
    #expect(lifecycle.job == situation.job)
    for command in TenantCommand.allCases {
      for hasStagedPages in [false, true] {
        let decision = lifecycle.decide(command, hasStagedPages: hasStagedPages)
        let expected = Self.expected(command, situation, hasStagedPages: hasStagedPages)
        #expect(decision == expected, "\(command.rawValue), staged pages: \(hasStagedPages)")
      }
    }
  }

  @Test(
    "every job leads to the state that the table names, however it ends", arguments: situations.filter { $0.job != nil }
  )
  func endOfJob(situation: Situation) throws {
    let job = try #require(situation.job)
    let finished: TenantState =
      switch job {
      case .enable, .trim: .pending
      case .out: .active
      case .disable: .ready
      }
    let ends: [(JobEnd, TenantState)] = [
      (.finished, finished), (.failed(unchanged: true), situation.settled), (.failed(unchanged: false), .failed),
      // "an ended trim or out leaves Pending"; an ended disable is followed by the enable that ended it.
      (.aborted, .pending),
    ]
    for (end, state) in ends {
      var lifecycle = Self.lifecycle(in: situation)
      lifecycle.ended(end)
      #expect(lifecycle.job == nil)
      #expect(lifecycle.state == state, "\(end)")
    }
  }

  @Test("`enable`, `out` and `disable` work again after any failure", arguments: TenantJob.allCases)
  func failureIsLeft(job: TenantJob) {
    var lifecycle = Self.lifecycle(in: Situation(settled: .pending, job: job))
    lifecycle.ended(.failed(unchanged: false))
    #expect(lifecycle.decide(.enable, hasStagedPages: true) == .start(.enable))
    #expect(lifecycle.decide(.out, hasStagedPages: true) == .start(.out))
    #expect(lifecycle.decide(.disable, hasStagedPages: true) == .start(.disable))
  }

  @Test("a plain disable ends a gradual cleanup of the swap file; nothing else asks for that")
  func gradualCleanup() {
    let ready = Lifecycle()
    #expect(ready.decide(.disable, hasStagedPages: false, hasWaste: true) == .start(.disable))
    #expect(ready.decide(.disable, hasStagedPages: false, hasWaste: false) == .nothingToDo)
    #expect(ready.decide(.unregister, hasStagedPages: false, hasWaste: true) == .nothingToDo)
  }

  @Test("states have the protocol's names")
  func names() {
    let names = ["Ready", "Pending", "TrimInProgress", "SwapOutInProgress", "Active", "SwapInInProgress", "Failed"]
    #expect(TenantState.allCases.map(\.rawValue) == names)
    #expect(TenantCommand.allCases.map(\.rawValue) == ["enable", "trim", "out", "disable", "unregister"])
  }
}
