package import Domain
internal import Glibc

/// A pthread mutex with a fixed address.
package final class PlainMutex: LedgerLock, @unchecked Sendable {  // a mutex is made to be shared
  private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)

  package init() { pthread_mutex_init(mutex, nil) }

  deinit {
    pthread_mutex_destroy(mutex)
    mutex.deallocate()
  }

  package func lock() { pthread_mutex_lock(mutex) }
  package func unlock() { pthread_mutex_unlock(mutex) }

  fileprivate var handle: UnsafeMutablePointer<pthread_mutex_t> { mutex }
}

/// A value behind a mutex that ThreadSanitizer understands; Synchronization's it does not see.
final class Guarded<Value>: @unchecked Sendable {  // guarded by `mutex`
  private let mutex = PlainMutex()
  private var value: Value

  init(_ value: Value) { self.value = value }

  func withLock<Result>(_ body: (inout Value) -> Result) -> Result {
    mutex.lock()
    defer { mutex.unlock() }
    return body(&value)
  }
}

/// A mutex with a condition on the monotonic clock.
package final class Monitor: @unchecked Sendable {  // see PlainMutex
  private let mutex = PlainMutex()
  private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

  package init() {
    var attributes = pthread_condattr_t()
    pthread_condattr_init(&attributes)
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
    pthread_cond_init(condition, &attributes)
    pthread_condattr_destroy(&attributes)
  }

  deinit {
    pthread_cond_destroy(condition)
    condition.deallocate()
  }

  package func withLock<Result>(_ body: () -> Result) -> Result {
    mutex.lock()
    defer { mutex.unlock() }
    return body()
  }

  /// To be called inside `withLock`; may return without a signal.
  package func wait() { pthread_cond_wait(condition, mutex.handle) }

  /// To be called inside `withLock`; returns at the deadline (nanoseconds of `SystemClock`) at the latest.
  package func wait(untilNanoseconds deadline: UInt64) {
    var time = timespec(tv_sec: Int(deadline / 1_000_000_000), tv_nsec: Int(deadline % 1_000_000_000))
    pthread_cond_timedwait(condition, mutex.handle, &time)
  }

  package func wakeOne() { pthread_cond_signal(condition) }
  package func wakeAll() { pthread_cond_broadcast(condition) }
}

/// A tenant's gate: first come, first served. Whoever asks takes a number, and lets the next number in once it holds the gate; so
/// neither the mover nor the fault service can starve the other.
package final class FairGate: Gate, @unchecked Sendable {  // its fields are guarded by `monitor`
  private let monitor = Monitor()
  private var nextTicket: UInt64 = 0
  private var serving: UInt64 = 0
  private var holders = GateHolders()

  package init() {}

  package func lock(_ hold: GateHold) {
    monitor.withLock {
      let ticket = nextTicket
      nextTicket += 1
      while serving != ticket || !holders.admit(hold) { monitor.wait() }
      holders.add(hold)
      serving += 1
      wakeWaiters()
    }
  }

  package func unlock(_ hold: GateHold) {
    monitor.withLock {
      holders.remove(hold)
      wakeWaiters()
    }
  }

  package var isWanted: Bool { monitor.withLock { nextTicket != serving } }

  private func wakeWaiters() { if nextTicket != serving { monitor.wakeAll() } }
}

/// CLOCK_MONOTONIC.
package struct SystemClock: Clock {
  package init() {}
  package var nowNanoseconds: UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
  }

  package func sleep(microseconds: UInt32) { usleep(microseconds) }
}
