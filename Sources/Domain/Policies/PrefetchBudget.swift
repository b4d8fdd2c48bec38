/// How much memory may be locked for what is read ahead by swap-in, and for what jobs copy through.
///
/// The budget is the smaller of 16 MiB and RLIMIT_MEMLOCK.
package struct PrefetchBudget: Equatable, Sendable {
  package static let largestBytes = 16 << 20

  package let totalBytes: Int
  package private(set) var lockedBytes = 0
  package var freeBytes: Int { totalBytes - lockedBytes }

  /// - Parameter memoryLockLimitBytes: RLIMIT_MEMLOCK, or nil where it does not apply.
  package init(memoryLockLimitBytes: UInt64?) {
    totalBytes = Int(min(UInt64(Self.largestBytes), memoryLockLimitBytes ?? .max))
  }

  /// - Returns: false, and nothing is taken, where the budget does not suffice.
  package mutating func take(_ bytes: Int) -> Bool {
    guard bytes <= freeBytes else { return false }
    lockedBytes += bytes
    return true
  }

  package mutating func giveBack(_ bytes: Int) {
    precondition(bytes <= lockedBytes, "more is given back to the budget than was taken")
    lockedBytes -= bytes
  }
}
