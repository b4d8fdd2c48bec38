import TestSupport
import Testing

/// The harness must be able to fail: planted failures are found, shrunk to the smallest case, and can be repeated.
@Suite struct PropertyTests {
  @Test("a planted failure is found and shrunk to its smallest case")
  func canary() throws {
    let failure = try #require(throws: PropertyFailure.self) {
      try checkProperty("no number above 999", cases: 200, settings: PropertySettings(seed: 7)) { choices in
        let numbers = choices.list(upTo: 20) { $0.int(in: 0...5000) }
        choices.note("\(numbers)")
        try require(numbers.allSatisfy { $0 < 1000 }, "one is too large")
      }
    }
    #expect(failure.notes == ["[1000]"])
    #expect(failure.reason.hasPrefix("one is too large"))
    #expect(failure.description.contains("SWAP_MONITOR_SEED=\(failure.seed) SWAP_MONITOR_CASES=1"))
  }

  @Test("steps that a failure does not need are shrunk away")
  func shrinksSequences() throws {
    let failure = try #require(throws: PropertyFailure.self) {
      try checkProperty("never two removes in a row", cases: 500, settings: PropertySettings(seed: 1)) { choices in
        var removes = 0
        try choices.rounds(upTo: 60) { choices in
          let step = choices.element(of: ["insert", "look", "remove"])
          choices.note(step)
          removes = step == "remove" ? removes + 1 : 0
          try require(removes < 2, "two removes")
        }
      }
    }
    #expect(failure.notes == ["remove", "remove"])
  }

  @Test("the seed of a failure repeats it as the first case")
  func repeatsFromSeed() throws {
    func run(_ settings: PropertySettings) -> PropertyFailure? {
      do throws(PropertyFailure) {
        try checkProperty("rarely 0", cases: 5000, settings: settings) { choices in
          let number = choices.number(upTo: .max)
          choices.note("\(number)")
          try require(number % 100 != 0, "a multiple of 100")
        }
        return nil
      } catch { return error }
    }
    let first = try #require(run(PropertySettings(seed: 99)))
    #expect(first.seed != 99, "the failure must not be the first case, or this test shows nothing")
    let again = try #require(run(PropertySettings(seed: first.seed, cases: 1)))
    #expect(again.seed == first.seed)
    #expect(again.recording == first.recording)
  }

  @Test("a property that holds is tried as often as asked, with different choices")
  func triesEveryCase() throws {
    var seen: Set<UInt64> = []
    try checkProperty("holds", settings: PropertySettings(seed: 3, cases: 57)) { choices in
      seen.insert(choices.number(upTo: .max))
    }
    #expect(seen.count == 57)
  }

  @Test("a recording that has ended yields zeros, and values beyond a limit are cut")
  func replayIsTotal() {
    var choices = Choices(replaying: [900, 1])
    let drawn = [choices.int(in: 10...20), choices.int(below: 2), choices.int(in: 3...9)]
    let list = choices.list(upTo: 5) { $0.int(below: 4) }
    #expect(drawn == [20, 1, 3])
    #expect(list.isEmpty)
    #expect(choices.recording == [10, 1, 0, 0])
  }

  @Test("SplitMix64 gives the published numbers")
  func splitMixIsTheRealOne() {
    // The first outputs of the reference code, prng.di.unimi.it/splitmix64.c, for seed 1234567.
    var random = SplitMix64(seed: 1_234_567)
    let expected: [UInt64] = [
      6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423, 4_593_380_528_125_082_431,
    ]
    #expect(expected.map { _ in random.next() } == expected)
  }
}
