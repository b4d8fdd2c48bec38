internal import Domain
internal import Glibc

/// Waits for userfaultfds to have something to read, or for a wake-up.
package struct FaultWaiter {
  /// Which of the userfaultfds had something to read, by their places in the list.
  package private(set) var ready: [Int] = []
  /// Whether the next fault was looked for, rather than waited for: the last ones came one upon the other.
  package private(set) var isLooking = false
  private var polls: [pollfd] = []
  private let wakeUp: WakeUp
  private let clock = SystemClock()
  private var spin = BurstSpin()

  package init(wakeUp: WakeUp) {
    self.wakeUp = wakeUp
    watch([])
  }

  /// Whom to wait for from now on.
  package mutating func watch(_ userfaultfds: [Descriptor]) {
    polls = (userfaultfds + [wakeUp.descriptor]).map { pollfd(fd: $0.raw, events: Int16(POLLIN), revents: 0) }
    ready.removeAll()
  }

  /// - Parameters:
  ///   - timeoutNanoseconds: nil waits for ever.
  ///   - servedSomething: since the last wait; another fault may follow at once.
  /// - Returns: false when the time is up.
  package mutating func wait(timeoutNanoseconds: UInt64?, servedSomething: Bool = false) -> Bool {
    let now = clock.nowNanoseconds
    isLooking = servedSomething ? spin.begin(now: now) : isLooking && spin.goesOn(now: now)
    if isLooking, polls.count == 2 {
      // Reading the only one tells as well as asking before.
      if ready.isEmpty { ready.append(0) }
      return true
    }
    var count = poll(timeoutNanoseconds: isLooking ? 0 : timeoutNanoseconds)
    if count < 0 { count = 1 }  // a signal: look
    if polls[polls.count - 1].revents != 0 { wakeUp.clear() }
    ready.removeAll(keepingCapacity: true)
    for number in 0..<(polls.count - 1) where polls[number].revents != 0 { ready.append(number) }
    for poll in polls.dropLast() where poll.revents & Int16(POLLERR) != 0 {
      // A userfaultfd answers POLLERR while its open file lacks O_NONBLOCK, which a client can clear at any time. Reads do
      // not need it; polling does.
      _ = fcntl(poll.fd, F_SETFL, fcntl(poll.fd, F_GETFL) | O_NONBLOCK)
      usleep(Self.errorPauseMicroseconds)
    }
    return count > 0
  }

  private mutating func poll(timeoutNanoseconds: UInt64?) -> Int32 {
    guard let timeout = timeoutNanoseconds else { return ppoll(&polls, nfds_t(polls.count), nil, nil) }
    var time = timespec(tv_sec: Int(timeout / 1_000_000_000), tv_nsec: Int(timeout % 1_000_000_000))
    return ppoll(&polls, nfds_t(polls.count), &time, nil)
  }

  /// Keeps a client that clears the flag all the time from costing a processor.
  private static let errorPauseMicroseconds: UInt32 = 1000
}
