import Domain

/// Makes port calls fail: some at random, or exactly the k-th.
package struct FaultInjector: Sendable {
  package enum Plan: Equatable, Sendable {
    case none
    case random(perMille: Int)
    case call(number: Int)
  }

  package var plan: Plan
  /// While it is off nothing fails; calls are not counted either.
  package var isOn = true
  /// Calls that could have been made to fail.
  package private(set) var calls = 0
  package private(set) var failures = 0
  private var random: SimulationRandom

  package init(plan: Plan, random: SimulationRandom) {
    self.plan = plan
    self.random = random
  }

  /// - Returns: the error number that this call is to fail with, if it is.
  package mutating func failure(among numbers: [Int32]) -> Int32? {
    guard isOn else { return nil }
    calls += 1
    let fails =
      switch plan {
      case .none: false
      case .random(let perMille): random.chance(perMille: perMille)
      case .call(let number): number == calls
      }
    guard fails else { return nil }
    failures += 1
    return random.pick(numbers)
  }
}
