internal import Glibc

/// poll(2), for who waits for a few descriptors now and then.
package enum Readable {
  /// Waits until one of them has something to read (or its other end is gone), or the time is up.
  ///
  /// - Parameter timeoutNanoseconds: nil waits for ever.
  /// - Returns: those that have; none when the time is up.
  package static func wait(for descriptors: [Descriptor], timeoutNanoseconds: UInt64? = nil) -> [Descriptor] {
    var polls = descriptors.map { pollfd(fd: $0.raw, events: Int16(POLLIN), revents: 0) }
    // Rounded up: a wait that ends too early would be begun again and again. SIGWINCH may end it early.
    let timeout = timeoutNanoseconds.map { Int32(clamping: ($0 + 999_999) / 1_000_000) } ?? -1
    while poll(&polls, nfds_t(polls.count), timeout) < 0 && timeout < 0 {}
    return zip(descriptors, polls).filter { $1.revents != 0 }.map(\.0)
  }
}
