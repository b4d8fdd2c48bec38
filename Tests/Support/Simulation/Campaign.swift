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
  package static let histories: Int = variable("SWAP_MONITOR_HISTORIES").flatMap { Int($0) } ?? 1000
  /// Progress is told each time so many are done.
  private static let historiesPerReport = 10_000

  /// - Parameter share: percent of the histories.
  package func run(share: Int) throws(HistoryFailure) {
    let first = Self.environmentSeed ?? UInt64.random(in: 0...(1 << 40))
    let saysEach = Self.variable("SWAP_MONITOR_VERBOSE") != nil
    let count = max(1, Self.histories * share / 100)
    let start = ContinuousClock.now
    var total = HistoryOutcome()
    for number in 0..<count {
      let seed = first &+ UInt64(number)
      if saysEach { Self.say("\(name) \(seed)\n") }
      let plan = HistoryPlan(seed: seed, flavour: flavour)
      let outcome = History.run(plan)
      total.add(outcome)
      if outcome.failure != nil { throw Self.explain(plan, name: name) }
      if (number + 1) % Self.historiesPerReport == 0 { report(number + 1, of: count, since: start) }
    }
    report(count, of: count, since: start)
    Self.say(
      "simulation \"\(name)\" from seed \(first): \(total.steps) steps, \(total.movedPages) pages moved (\(total.followedUpPages) by out), "
        + "\(total.writtenPages) written, trimmed \(total.zeroPages) zero and \(total.unchangedPages) unchanged"
        + (flavour.mayDie
          ? "; \(total.deaths) workers died, \(total.deathsInTakeOver) of them while they took over\n" : "\n")
    )
  }

  private func report(_ done: Int, of count: Int, since start: ContinuousClock.Instant) {
    let milliseconds = max(1, Int((ContinuousClock.now - start) / .milliseconds(1)))
    Self.say("simulation \"\(name)\": \(done) of \(count) histories, \(done * 1000 / milliseconds) a second\n")
  }

  /// Replays each of a few histories so often that every one of its port calls fails once, in each way in which it may.
  ///
  /// - Returns: how many replays that took, and what came of the histories where nothing failed.
  package func runEachCallFailing(seeds: ClosedRange<UInt64>) throws(HistoryFailure) -> (Int, HistoryOutcome) {
    var replays = 0
    var total = HistoryOutcome()
    for seed in seeds {
      var plan = HistoryPlan(seed: seed, flavour: flavour)
      let outcome = History.run(plan)
      if outcome.failure != nil { throw Self.explain(plan, name: name) }
      total.add(outcome)
      for (index, choices) in outcome.failureChoices.enumerated() {
        for choice in 0..<choices {
          plan.faults = .call(number: index + 1, choice: choice)
          if History.run(plan).failure != nil { throw Self.explain(plan, name: name) }
          replays += 1
        }
      }
    }
    Self.say(
      "simulation \"\(name)\": \(replays) replays of \(seeds.count) histories; \(total.movedPages) pages moved, "
        + "\(total.writtenPages) written, trimmed \(total.zeroPages) zero and \(total.unchangedPages) unchanged\n")
    return (replays, total)
  }

  /// Looks for what a planted bug does. Its seeds are fixed (unless `SWAP_MONITOR_SEED` says others), so that it finds the
  /// same every time.
  ///
  /// - Returns: the history in which something was lost; nil where so many do not suffice.
  package static func find(_ defect: Defect, within limit: Int, isLive: Bool = false) -> HistoryPlan? {
    let first = environmentSeed ?? 1
    var flavour = defect.flavour
    if isLive { flavour.freezes = [.live] }
    for number in 0..<limit {
      let plan = HistoryPlan(seed: first &+ UInt64(number), flavour: flavour)
      guard let failure = History.run(plan, defect: defect).failure else { continue }
      say("planted: \(defect.rawValue): found in history \(number + 1): \(failure.prefix(160))\n")
      return plan
    }
    return nil
  }

  /// Makes a failing history smaller, and replays it with its log.
  static func explain(_ plan: HistoryPlan, name: String, defect: Defect? = nil) -> HistoryFailure {
    // Before shrinking: a seed is worth more than nothing, should a trap end the process.
    say("simulation \"\(name)\" fails: SWAP_MONITOR_SEED=\(plan.seed) SWAP_MONITOR_HISTORIES=1 repeats it\n")
    var shrinker = HistoryShrinker(defect: defect)
    let small = shrinker.shrink(plan)
    let outcome = History.run(small, defect: defect, keepsLog: true)
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
