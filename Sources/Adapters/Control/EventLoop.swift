internal import Glibc

/// epoll: waits for many descriptors at once, level triggered.
package final class EventLoop: Sendable {
  package struct Ready: Sendable {
    package let token: UInt64
    package let isReadable: Bool
    package let isWritable: Bool
    package let isHungUp: Bool
  }

  /// `struct epoll_event`: packed on x86-64 only (<sys/epoll.h>), so it is written by offset.
  enum Event {
    #if arch(x86_64)
      static let bytes = 12
      static let tokenOffset = 4
    #else
      static let bytes = 16
      static let tokenOffset = 8
    #endif
  }

  private let descriptor: Descriptor
  private static let eventsPerWait = 64

  package init() throws(SystemError) {
    descriptor = Descriptor(owning: try checked("epoll_create1") { c_epoll_create1(0o2000000) })  // EPOLL_CLOEXEC
  }

  package func add(_ watched: Descriptor, token: UInt64, writable: Bool = false) throws(SystemError) {
    try control(Linux.EPOLL_CTL_ADD, watched, token, Linux.EPOLLIN | (writable ? Linux.EPOLLOUT : 0))
  }

  /// - Parameters:
  ///   - readable: report when there is something to read; hang-ups are always reported.
  package func change(_ watched: Descriptor, token: UInt64, readable: Bool, writable: Bool) throws(SystemError) {
    let events = (readable ? Linux.EPOLLIN : 0) | (writable ? Linux.EPOLLOUT : 0)
    try control(Linux.EPOLL_CTL_MOD, watched, token, events)
  }

  package func remove(_ watched: Descriptor) { _ = c_epoll_ctl(descriptor.raw, Linux.EPOLL_CTL_DEL, watched.raw, nil) }

  /// Waits until something is ready, or the time is up.
  ///
  /// - Parameter timeoutNanoseconds: nil waits for ever.
  package func wait(timeoutNanoseconds: UInt64? = nil) throws(SystemError) -> [Ready] {
    var buffer = [UInt8](repeating: 0, count: Event.bytes * Self.eventsPerWait)
    let raw = descriptor.raw
    // Rounded up: a wait that ends too early would be begun again and again.
    let timeout = timeoutNanoseconds.map { Int32(clamping: ($0 + 999_999) / 1_000_000) } ?? -1
    let count = try checked("epoll_wait") {
      buffer.withUnsafeMutableBytes { c_epoll_wait(raw, $0.baseAddress!, Int32(Self.eventsPerWait), timeout) }
    }
    return buffer.withUnsafeBytes { bytes in
      (0..<Int(count)).map { number in
        let events = bytes.loadUnaligned(fromByteOffset: number * Event.bytes, as: UInt32.self)
        return Ready(
          token: bytes.loadUnaligned(fromByteOffset: number * Event.bytes + Event.tokenOffset, as: UInt64.self),
          isReadable: events & Linux.EPOLLIN != 0, isWritable: events & Linux.EPOLLOUT != 0,
          isHungUp: events & (Linux.EPOLLHUP | Linux.EPOLLERR) != 0)
      }
    }
  }

  private func control(_ operation: Int32, _ watched: Descriptor, _ token: UInt64, _ events: UInt32) throws(SystemError)
  {
    var event = [UInt8](repeating: 0, count: Event.bytes)
    let raw = descriptor.raw
    try checked("epoll_ctl") {
      event.withUnsafeMutableBytes { bytes in
        bytes.storeBytes(of: events, as: UInt32.self)
        bytes.storeBytes(of: token, toByteOffset: Event.tokenOffset, as: UInt64.self)
        return c_epoll_ctl(raw, operation, watched.raw, bytes.baseAddress)
      }
    }
  }
}

/// The signals that ask for an end as something to read: SIGTERM, SIGINT and, as a terminal that is closed or typed at sends
/// them, SIGHUP (not where it is ignored, as under nohup) and SIGQUIT. To be made before any other thread, which inherits the blocked signals.
package final class EndSignals: Sendable {
  package let descriptor: Descriptor

  package init() throws(SystemError) {
    var mask = sigset_t()
    sigemptyset(&mask)
    for signal in Self.numbers { sigaddset(&mask, signal) }
    pthread_sigmask(SIG_BLOCK, &mask, nil)
    signal(SIGPIPE, SIG_IGN)
    descriptor = Descriptor(
      owning: try checked("signalfd") { c_signalfd(-1, &mask, Linux.SFD_CLOEXEC | Linux.SFD_NONBLOCK) })
  }

  /// A signal that is blocked waits to be read, even where it would be ignored.
  static var numbers: [Int32] {
    var action = sigaction()
    sigaction(SIGHUP, nil, &action)
    // Safety: the structure begins with the handler's address; SIG_IGN is 1 (asm-generic/signal-defs.h).
    let isIgnored = withUnsafeBytes(of: action) { $0.load(as: UInt.self) } == 1
    return [SIGTERM, SIGINT, SIGQUIT] + (isIgnored ? [] : [SIGHUP])
  }

  /// Signals that come by another way.
  init(reading descriptor: Descriptor) { self.descriptor = descriptor }

  /// - Returns: the signal's number.
  package func take() -> Int32? {
    var information = [UInt32](repeating: 0, count: 32)  // struct signalfd_siginfo is 128 bytes, its number first
    let (count, _) = retryingInterrupts { read(descriptor.raw, &information, 128) }
    return count == 128 ? Int32(information[0]) : nil
  }
}
