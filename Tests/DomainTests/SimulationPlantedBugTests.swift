import TestSupport
import Testing

/// Canaries: with a rule of RULES.md broken in the simulated outside, the simulation must find the loss.
@Suite struct SimulationPlantedBugTests {
  struct Planted: Sendable, CustomTestStringConvertible {
    let defect: Defects
    let testDescription: String
    var style = HistoryPlan.Style.mixed
  }

  static let planted: [Planted] = [
    Planted(defect: .nothingHoldsWriters, testDescription: "neither protection nor a freeze holds writers"),
    Planted(defect: .gateDoesNotExclude, testDescription: "the gate excludes nobody"),
    Planted(defect: .releaseTakesOneMore, testDescription: "a staged page is freed"),
    Planted(defect: .writesAreGarbage, testDescription: "writes succeed and leave garbage"),
    Planted(defect: .pinnedPagesLookLikeHoles, testDescription: "what a punch leaves behind looks like a hole"),
    Planted(defect: .removesAreSwallowed, testDescription: "removes are not told of"),
    Planted(defect: .lookSeesNobody, testDescription: "tasks inside madvise are not seen"),
    Planted(defect: .checksumsCollide, testDescription: "all checksums are the same"),
    Planted(defect: .installOverwrites, testDescription: "COPY overwrites"),
    Planted(defect: .zeroPageHidesPresence, testDescription: "redundant faults settle removals", style: .crowd),
  ]

  @Test(arguments: planted) func isFound(_ planted: Planted) throws {
    let campaign = Campaign(name: planted.testDescription, flavour: .init(style: planted.style))
    let found = campaign.find(planted.defect, within: 60000)
    #expect(found != nil, "\(planted.testDescription): no history of 60000 lost anything")
  }
}
