import TestSupport
import Testing

/// Histories in which the worker dies, again and again, anywhere: between any two port calls, and between any two stores into
/// the page tables. The next one takes over from what outlives it.
@Suite struct SimulationDeathTests {
  @Test func noPageIsLostToDeaths() throws {
    try Campaign(name: "workers die", flavour: .init(mayDie: true)).run(share: 40)
  }

  @Test func noPageIsLostToDeathsInACrowd() throws {
    try Campaign(name: "workers die in a crowd", flavour: .init(style: .crowd, mayDie: true)).run(share: 15)
    try Campaign(name: "workers die, several processes", flavour: .init(isShared: true, mayDie: true)).run(share: 15)
  }

  @Test func noPageIsLostToDeathsLive() throws {
    let flavour = HistoryPlan.Flavour(mayDie: true, pinsAlways: true, freezes: [.live])
    try Campaign(name: "workers die, live", flavour: flavour).run(share: 15)
    let often = HistoryPlan.Flavour(isShared: true, diesOften: true, pinsAlways: true, freezes: [.live])
    try Campaign(name: "workers die often, live", flavour: often).run(share: 10)
  }

  @Test func noPageIsLostToDeathsWhileTrimming() throws {
    try Campaign(name: "workers die while trimming", flavour: .init(style: .trimming, mayDie: true)).run(share: 15)
  }

  @Test func noPageIsLostToDeathsAndFailures() throws {
    let flavour = HistoryPlan.Flavour(faults: .random(perMille: 15), mayDie: true)
    try Campaign(name: "workers die, and calls fail", flavour: flavour).run(share: 10)
    let corrupting = HistoryPlan.Flavour(corruptsPerMille: 150, isShared: true, mayDie: true)
    try Campaign(name: "workers die, and slots are corrupted", flavour: corrupting).run(share: 5)
  }
}
