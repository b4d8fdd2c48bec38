import TestSupport
import Testing

/// Canaries: with a rule of RULES.md broken in the simulated outside, the simulation must find what comes of it.
@Suite struct SimulationPlantedBugTests {
  private static let budget = 5_000

  @Test func everyRuleIsBroken() {
    let rules = Set(Defect.allCases.compactMap(\.rule))
    #expect(rules == Set(1...16))
  }

  @Test(arguments: Defect.allCases) func isFound(_ defect: Defect) throws {
    let found = Campaign.find(defect, within: Self.budget)
    let plan = try #require(found, "no history of \(Self.budget) lost anything")
    #expect(History.run(plan).failure == nil, "the same history fails without the planted bug")
  }
}

extension Defect: CustomTestStringConvertible {
  public var testDescription: String { rawValue }
}
