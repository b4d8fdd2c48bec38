import Domain

/// Makes port calls fail: some at random, or exactly the k-th.
package struct FaultInjector: Sendable {
  package enum Plan: Equatable, Sendable {
    case none
    case random(perMille: Int)
    /// With the error number at this place among those that it may fail with.
    case call(number: Int, choice: Int)
  }

  package var plan: Plan
  /// While it is off nothing fails; calls are not counted either.
  package var isOn = true
  /// Of each call that could have been made to fail, with how many error numbers.
  package private(set) var choices: [Int] = []
  package private(set) var failures = 0
  private var random: SimulationRandom

  package init(plan: Plan, random: SimulationRandom) {
    self.plan = plan
    self.random = random
  }

  /// - Returns: the error number that this call is to fail with, if it is.
  package mutating func failure(among numbers: [Int32]) -> Int32? {
    guard isOn else { return nil }
    switch plan {
    case .none:
      choices.append(numbers.count)
      return nil
    case .random(let perMille):
      guard random.chance(perMille: perMille) else { return nil }
      failures += 1
      return random.pick(numbers)
    case .call(let number, let choice):
      choices.append(numbers.count)
      guard choices.count == number else { return nil }
      failures += 1
      return numbers[choice % numbers.count]
    }
  }
}
