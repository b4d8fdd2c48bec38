/// A second pair of hands for a job's step.
package protocol Helper: Sendable {
  /// Carries out both pieces of work, at the same time where that can be; returns when both are done.
  func both<First, Second: Sendable>(
    _ first: () -> First, _ second: @escaping @Sendable () -> Second
  ) -> (First, Second)
}
