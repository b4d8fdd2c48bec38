/// When staged copies that nobody needs any more are given back by who serves faults: each run that is punched takes as long
/// as serving one.
///
/// In a pause all are, one after the other with a look for faults between. While faults keep coming, a part of the steps gives
/// one run back: fewer than half, so that most faults meet none, and no row of them, for which the scheduler would let others run
/// first when the next fault comes.
package struct ReleasePace: Sendable {
  /// Runs for each call, while faults come.
  package static let runsPerCall = 16
  private var owed = 0
  private var left = 0
  private var events = 0

  package init() {}

  /// - Parameters:
  ///   - events: in the step, but for removals, whose sender waits for nobody.
  ///   - isCalled: time has passed since the last call, or there were removals.
  ///   - releasable: copies that nobody needs.
  package mutating func stepped(events: Int, isCalled: Bool, releasable: Int) {
    self.events += events
    if isCalled {
      (owed, left) = self.events == 0 ? (releasable, releasable) : (Self.runsPerCall, 1)
      self.events = 0
    } else if events > 0 {
      (owed, left) = (min(owed, Self.runsPerCall), 1)  // the pause is over
    }
  }

  /// Whether to give one run back now, if nothing has come.
  package mutating func takeRun() -> Bool {
    guard owed > 0, left > 0 else { return false }
    (owed, left) = (owed - 1, left - 1)
    return true
  }
}
