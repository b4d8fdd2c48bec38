import TestSupport
import Testing

/// Random histories of tenants under the daemon's services, over the simulated kernel: whatever is interleaved, every
/// page reads as it should. `SWAP_MONITOR_SEED` and `SWAP_MONITOR_HISTORIES` (default 1000) say which histories, and how
/// many in all.
@Suite struct SimulationTests {
  /// Nothing is made to fail, but processes may die.
  @Test func noPageIsLost() throws {
    try Campaign(name: "plain", flavour: .init()).run(share: 30)
  }

  @Test func noPageIsLostInACrowd() throws {
    try Campaign(name: "crowd", flavour: .init(mayKill: false, style: .crowd)).run(share: 15)
  }

  /// Nobody is stopped, also where pages are pinned.
  @Test func noPageIsLostLive() throws {
    try Campaign(name: "live", flavour: .init(freezes: [.live])).run(share: 15)
    try Campaign(name: "live, pinned", flavour: .init(isShared: true, pinsAlways: true, freezes: [.live])).run(
      share: 15)
    let crowd = HistoryPlan.Flavour(mayKill: false, style: .crowd, pinsAlways: true, freezes: [.live])
    try Campaign(name: "live, crowd", flavour: crowd).run(share: 10)
    let flavour = HistoryPlan.Flavour(faults: .random(perMille: 20), isTight: true, freezes: [.live])
    try Campaign(name: "live, tight, and calls fail", flavour: flavour).run(share: 10)
  }

  @Test func noPageIsLostToTrim() throws {
    try Campaign(name: "trimming", flavour: .init(mayKill: false, style: .trimming)).run(share: 15)
  }

  /// There is little memory, in staging and for what comes back, and in the swap file.
  @Test func noPageIsLostForWantOfMemory() throws {
    try Campaign(name: "tight", flavour: .init(isTight: true)).run(share: 50)
    try Campaign(name: "tight, again and again", flavour: .init(style: .trimming, isTight: true)).run(share: 30)
    let flavour = HistoryPlan.Flavour(faults: .random(perMille: 20), isTight: true)
    try Campaign(name: "tight, and calls fail", flavour: flavour).run(share: 20)
  }

  /// Any port call may fail at any time.
  @Test func noPageIsLostWhereCallsFail() throws {
    try Campaign(name: "calls fail now and then", flavour: .init(faults: .random(perMille: 10))).run(share: 15)
    try Campaign(name: "calls fail often", flavour: .init(faults: .random(perMille: 60))).run(share: 10)
  }

  /// The disk silently loses what was written: readers get SIGBUS or what is right, nothing else.
  @Test func corruptedSlotsNeverBecomeContent() throws {
    try Campaign(name: "corrupted slots", flavour: .init(corruptsPerMille: 150)).run(share: 10)
    let flavour = HistoryPlan.Flavour(faults: .random(perMille: 20), corruptsPerMille: 100)
    try Campaign(name: "corrupted slots, and calls fail", flavour: flavour).run(share: 5)
  }

  /// As SQLite tests it: one call fails in each run, at first the first, then the second, up to the last.
  @Test func everyCallMayFail() throws {
    let campaign = Campaign(name: "every call fails once", flavour: .init(style: .brief))
    let (replays, total) = try campaign.runEachCallFailing(seeds: 1...8)
    #expect(replays > 500)
    // No command was idle.
    #expect(total.movedPages > 0 && total.writtenPages > 0 && total.zeroPages > 0 && total.unchangedPages > 0)
  }

  /// A failing history can be replayed only if the seed says everything.
  @Test func sameSeedSameHistory() {
    for seed in UInt64(1)...10 {
      let plan = HistoryPlan(seed: seed, flavour: .init(faults: .random(perMille: 10)))
      let first = History.run(plan, keepsLog: true)
      let second = History.run(plan, keepsLog: true)
      #expect(first.log == second.log)
      #expect(first.steps == second.steps)
      #expect(first.log.count > 0)
    }
  }
}
