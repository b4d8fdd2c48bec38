import TestSupport
import Testing

/// Canaries: with a rule of RULES.md broken in the simulated outside, the simulation must find what comes of it.
@Suite struct SimulationPlantedBugTests {
  private static let budget = 5_000

  @Test func everyRuleIsBroken() {
    let rules = Set(Defect.allCases.compactMap(\.rule))
    #expect(rules == Set(1...16))
  }

  /// Where nobody is stopped, other things stand between the bug and the harm.
  @Test(arguments: [
    Defect.copiesComeLate, .protectionEndsAtPunch, .nothingHoldsWriters, .protectionIsSkipped, .onlyFirstIsProtected,
    .pagesAreReadBeforeProtection, .extentsAreListedBeforeProtection, .punchesTakeTenantsPages, .removesAreSwallowed,
    .lookSeesNobody, .lookMissesEarlyRemoves, .removersCountAsStopped, .removesCountAsHoles, .gateDoesNotExclude,
    .sharedEntersExclusive, .removesAreToldLate, .interruptedMovesGoOn, .protectionStays, .lateIsNotProtected,
    .lateJoinsAtOnce,
  ]) func isFoundLive(_ defect: Defect) {
    #expect(Campaign.find(defect, within: Self.budget, isLive: true) != nil)
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
