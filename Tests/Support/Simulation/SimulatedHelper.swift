import Domain

/// Another thread of the worker's, which takes half of a step over.
package final class SimulatedHelper: Helper, @unchecked Sendable {  // belongs to whoever holds the baton
  private let kernel: SimulatedKernel
  private var work: (() -> Void)?
  private var serves = false

  init(kernel: SimulatedKernel) { self.kernel = kernel }

  /// The thread.
  func serve(until isOver: @escaping () -> Bool) {
    serves = true
    while true {
      kernel.scheduler.wait(for: "something to help with") { self.work != nil || isOver() }
      guard let next = work else { return serves = false }
      work = nil
      next()
    }
  }

  package func both<First, Second: Sendable>(
    _ first: () -> First, _ second: @escaping @Sendable () -> Second
  ) -> (First, Second) {
    kernel.enter("helper.both")
    guard serves, !kernel.scheduler.isUnwinding else { return (first(), second()) }
    let outcome = Outcome<Second>()
    var isBegun = false
    work = {
      isBegun = true
      outcome.value = second()
    }
    let done = first()
    kernel.scheduler.wait(for: "the helper") { outcome.value != nil }
    // Killed while it waited. What is begun is not done twice.
    while isBegun, outcome.value == nil { kernel.scheduler.unwindLater() }
    if outcome.value == nil { work = nil }
    return (done, outcome.value ?? second())
  }

  package func takeTurns(_ count: Int) -> @Sendable () -> Int? {
    let turns = Outcome<Int>()
    turns.value = 0
    return {
      guard let number = turns.value, number < count else { return nil }
      turns.value = number + 1
      return number
    }
  }

  private final class Outcome<Value: Sendable>: @unchecked Sendable {
    var value: Value?
  }
}
