import Testing
import TestSupport

@Suite(.serialized)
struct SimulationTests {
  @Test func nothingIsLost() throws {
    try Campaign(name: "plain", flavour: .init()).run(share: 50)
  }
}
