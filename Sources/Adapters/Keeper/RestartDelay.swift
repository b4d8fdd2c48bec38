/// How long to wait before the next worker: not at all, unless workers die young one after another. One that dies later is no
/// reason to keep tenants waiting.
struct RestartDelay {
  private static let shortLifeNanoseconds: UInt64 = 250_000_000
  private static let firstNanoseconds: UInt64 = 10_000_000
  private static let limitNanoseconds: UInt64 = 5_000_000_000

  /// Workers that died young, one after another.
  private(set) var shortLives = 0

  mutating func next(livedNanoseconds: UInt64) -> UInt64 {
    guard livedNanoseconds < Self.shortLifeNanoseconds else {
      shortLives = 0
      return 0
    }
    shortLives += 1
    guard shortLives > 1 else { return 0 }
    return min(Self.firstNanoseconds << UInt64(min(shortLives - 2, 20)), Self.limitNanoseconds)
  }
}
