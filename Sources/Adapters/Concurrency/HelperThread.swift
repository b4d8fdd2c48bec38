internal import Domain
internal import Synchronization

/// Whether any tenant's faults are being served: who waits for one needs a processor, too.
package final class FaultActivity: Sendable {
  private let count = Atomic(0)

  package init() {}

  /// Some have just been served.
  package func note() { count.add(1, ordering: .relaxed) }

  /// Grows with each note.
  var notes: Int { count.load(ordering: .relaxed) }
}

/// A thread that takes the second half of a job's steps over; it exists while a job runs.
package final class HelperThread: Helper, @unchecked Sendable {  // its fields are guarded by `monitor`
  private enum Work {
    case none
    case waiting(@Sendable () -> Void)
    case begun
  }

  private let monitor = Monitor()
  private var work = Work.none
  private var isEnding = false
  package let activity: FaultActivity
  // Of who asks, who is one thread at a time.
  private var thread: Thread?
  private var seenNotes = 0

  /// - Parameter activity: while faults come, of whatever tenant, all work is left to who asks.
  package init(activity: FaultActivity = FaultActivity()) { self.activity = activity }

  deinit { end() }

  package func both<First, Second: Sendable>(
    _ first: () -> First, _ second: @escaping @Sendable () -> Second
  ) -> (First, Second) {
    let notes = activity.notes
    defer { seenNotes = notes }
    guard notes == seenNotes, start() else { return (first(), second()) }
    let outcome = Outcome<Second>()
    monitor.withLock {
      work = .waiting { outcome.value = second() }
      monitor.wakeAll()
    }
    let done = first()
    let isLeft = monitor.withLock {
      // The thread may not have had a processor yet: then it is not waited for.
      if case .waiting = work {
        work = .none
        return true
      }
      while case .begun = work { monitor.wait() }
      return false
    }
    guard !isLeft, let value = outcome.value else { return (done, second()) }
    return (done, value)
  }

  package func takeTurns(_ count: Int) -> @Sendable () -> Int? {
    final class Turns: Sendable {
      let taken = Atomic(0)
    }
    let turns = Turns()
    return {
      let number = turns.taken.add(1, ordering: .relaxed).oldValue
      return number < count ? number : nil
    }
  }

  /// Ends the thread; the next work starts it anew.
  package func end() {
    monitor.withLock {
      isEnding = true
      monitor.wakeAll()
    }
    thread?.join()
    thread = nil
    monitor.withLock { isEnding = false }
  }

  private final class Outcome<Value: Sendable>: @unchecked Sendable {  // handed over under `monitor`
    var value: Value?
  }

  private func start() -> Bool {
    if thread == nil { thread = attempt { try Thread(name: "helper") { [unowned self] in run() } } }
    return thread != nil
  }

  private func run() {
    while let next = take() {
      next()
      monitor.withLock {
        work = .none
        monitor.wakeAll()
      }
    }
  }

  private func take() -> (@Sendable () -> Void)? {
    monitor.withLock {
      while !isEnding {
        if case .waiting(let next) = work {
          work = .begun
          return next
        }
        monitor.wait()
      }
      return nil
    }
  }
}
