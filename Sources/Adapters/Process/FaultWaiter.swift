internal import Domain
internal import Glibc

/// Waits for userfaultfds to have something to read, or for a wake-up.
package struct FaultWaiter {
  /// Which of the userfaultfds had something to read, by their places in the list.
  package private(set) var ready: [Int] = []
  /// Whether a wake-up has ended the last wait.
  package private(set) var wasWoken = false
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
  ///   - work: what can be done while nothing comes: a piece of it, each time; false when there is none.
  /// - Returns: false when the time is up.
  package mutating func wait(
    timeoutNanoseconds: UInt64?, servedSomething: Bool = false, meanwhile work: () -> Bool = { false }
  ) -> Bool {
    var count: Int32 = 0
    if servedSomething, spin.begin(now: clock.nowNanoseconds) {
      repeat { count = poll(timeoutNanoseconds: 0) } while count == 0 && spin.goesOn(now: clock.nowNanoseconds)
    }
    while count == 0, work() {
      count = poll(timeoutNanoseconds: 0)
      if timeoutNanoseconds != nil { break }
    }
    if count == 0 { count = poll(timeoutNanoseconds: timeoutNanoseconds) }
    if count < 0 { count = 1 }  // a signal: look
    wasWoken = polls[polls.count - 1].revents != 0
    if wasWoken { wakeUp.clear() }
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
