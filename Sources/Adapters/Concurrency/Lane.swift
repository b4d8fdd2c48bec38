internal import Synchronization

/// Tells others how long a thread has been in the middle of something: the kernel can have it wait for a lock that a client
/// holds as long as it likes.
package final class Lane: Sendable {
  package let name: String
  private let begin = Atomic<UInt64>(0)

  package init(_ name: String) { self.name = name }

  package func enter() { begin.store(SystemClock().nowNanoseconds, ordering: .relaxed) }
  package func leave() { begin.store(0, ordering: .relaxed) }

  /// Since it entered; 0 while it is in the middle of nothing.
  package var busyNanoseconds: UInt64 {
    let since = begin.load(ordering: .relaxed)
    let now = SystemClock().nowNanoseconds
    return since == 0 || now < since ? 0 : now - since
  }
}
