/// A second pair of hands for a job's step.
package protocol Helper: Sendable {
  /// Carries out both pieces of work, at the same time where that can be; returns when both are done.
  func both<First, Second: Sendable>(
    _ first: () -> First, _ second: @escaping @Sendable () -> Second
  ) -> (First, Second)
  /// Hands out the numbers 0..<count, each once, to whoever asks; then nil.
  func takeTurns(_ count: Int) -> @Sendable () -> Int?
}

extension Helper {
  /// Two pairs of hands take pieces of work by turns, the next one whenever they have time: neither waits for who is slower.
  func both<Piece: Sendable, Outcome: Sendable>(
    _ pieces: [Piece], _ work: @escaping @Sendable (_ next: () -> Piece?) -> Outcome
  ) -> (Outcome, Outcome) {
    let turns = takeTurns(pieces.count)
    let next: @Sendable () -> Piece? = { turns().map { pieces[$0] } }
    if pieces.count < 2 { return (work(next), work { nil }) }
    return both {
      work(next)
    } _: {
      work(next)
    }
  }
}
