import Domain
import Glibc

/// A history in which a page was lost, or something else went wrong.
package struct HistoryFailure: Error, CustomStringConvertible {
  package let description: String
}

/// Many histories of one kind. `SWAP_MONITOR_SEED` and `SWAP_MONITOR_HISTORIES` say where it begins, and how many.
package struct Campaign: Sendable {
  package let name: String
  package let flavour: HistoryPlan.Flavour

  package init(name: String, flavour: HistoryPlan.Flavour) {
    self.name = name
    self.flavour = flavour
  }

  package static let environmentSeed: UInt64? = variable("SWAP_MONITOR_SEED").flatMap { UInt64($0) }
  package static let histories: Int = variable("SWAP_MONITOR_HISTORIES").flatMap { Int($0) } ?? 200

  /// - Parameter share: percent of the histories.
  package func run(share: Int) throws(HistoryFailure) {
    let first = Self.environmentSeed ?? UInt64.random(in: 0...(1 << 40))
    let saysEach = Self.variable("SWAP_MONITOR_VERBOSE") != nil
    var total = HistoryOutcome()
    for number in 0..<max(1, Self.histories * share / 100) {
      let seed = first &+ UInt64(number)
      if saysEach { Self.say("\(name) \(seed)\n") }
      let plan = HistoryPlan(seed: seed, flavour: flavour)
      let outcome = History.run(plan)
      total.steps += outcome.steps
      total.movedPages += outcome.movedPages
      total.followedUpPages += outcome.followedUpPages
      total.writtenPages += outcome.writtenPages
      total.zeroPages += outcome.zeroPages
      total.unchangedPages += outcome.unchangedPages
      guard outcome.failure != nil else { continue }
      throw Self.explain(plan, name: name)
    }
    Self.say(
      "simulation \"\(name)\" from seed \(first): \(total.steps) steps, \(total.movedPages) pages moved (\(total.followedUpPages) by out), "
        + "\(total.writtenPages) written, trimmed \(total.zeroPages) zero and \(total.unchangedPages) unchanged\n")
  }

  /// Takes one history after another, and makes in each replay another one of its port calls fail.
  ///
  /// - Parameter share: percent of the histories; every replay counts.
  package func runEachCallFailing(share: Int) throws(HistoryFailure) {
    var seed = Self.environmentSeed ?? UInt64.random(in: 0...(1 << 40))
    var left = max(1, Self.histories * share / 100)
    while left > 0 {
      var plan = HistoryPlan(seed: seed, flavour: flavour)
      let calls = History.run(plan).injectableCalls
      // Of a long history not every call can be tried: some, evenly spread.
      for number in stride(from: 1, through: calls, by: max(1, calls / 100)) where left > 0 {
        plan.faults = .call(number: number)
        if History.run(plan).failure != nil { throw Self.explain(plan, name: name) }
        left -= 1
      }
      seed &+= 1
    }
  }

  /// Looks for a loss that a planted bug makes. Its seeds are fixed, so that it finds the same one every time.
  ///
  /// - Returns: what was lost, and in which history; nil where the histories do not suffice.
  package func find(_ defects: Defects, within limit: Int) -> String? {
    for number in 1...limit {
      let outcome = History.run(HistoryPlan(seed: UInt64(number), flavour: flavour), defects: defects)
      guard let failure = outcome.failure else { continue }
      Self.say("planted: \(name): found in history \(number): \(failure.prefix(160))\n")
      return failure
    }
    return nil
  }

  /// Makes a failing history smaller, and replays it with its log.
  static func explain(_ plan: HistoryPlan, name: String, defects: Defects = []) -> HistoryFailure {
    // Before shrinking: a seed is worth more than nothing, should a trap end the process.
    say("simulation \"\(name)\" fails: SWAP_MONITOR_SEED=\(plan.seed) SWAP_MONITOR_HISTORIES=1 repeats it\n")
    var shrinker = HistoryShrinker(defects: defects)
    let small = shrinker.shrink(plan)
    let outcome = History.run(small, defects: defects, keepsLog: true)
    return HistoryFailure(
      description: "simulation \"\(name)\", SWAP_MONITOR_SEED=\(plan.seed), made smaller: "
        + "\(outcome.failure ?? "the failure does not repeat")\n\(small)\n"
        + relevant(outcome.log).suffix(linesShown).joined(separator: "\n"))
  }

  private static let linesShown = 250

  /// What comes after the failure explains nothing.
  private static func relevant(_ log: [String]) -> ArraySlice<String> {
    log.prefix((log.firstIndex { $0.contains("FAILURE") } ?? log.count) + 1)
  }

  private static func variable(_ name: String) -> String? { getenv(name).map { String(cString: $0) } }

  private static func say(_ text: String) {
    _ = Array(text.utf8).withUnsafeBytes { write(STDERR_FILENO, $0.baseAddress, $0.count) }
  }
}
