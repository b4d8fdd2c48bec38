/// A few threads that wait for a disk in the place of who has asked: started with the first request, and ended by `end`.
final class DiskThreads<Request: Sendable, Outcome: Sendable>: @unchecked Sendable {  // guarded by `monitor`
  private let monitor = Monitor()
  private let name: String
  private let count: Int
  private let carryOut: @Sendable (Request) -> Outcome
  private var threads: [Thread] = []
  private var isEnding = false
  private var requests: [Request] = []
  private var outcomes: [Outcome] = []
  /// Requests whose outcome nobody has asked for yet.
  private var unclaimed = 0

  init(name: String, count: Int, _ carryOut: @escaping @Sendable (Request) -> Outcome) {
    (self.name, self.count, self.carryOut) = (name, count, carryOut)
  }

  deinit { end() }

  /// Requests whose outcome nobody has asked for yet.
  var underWay: Int { monitor.withLock { unclaimed } }

  func start(_ request: Request) {
    let isLeft = monitor.withLock {
      unclaimed += 1
      startThreads()
      if threads.isEmpty { return false }
      requests.append(request)
      monitor.wakeAll()
      return true
    }
    guard !isLeft else { return }
    // No thread is to be had. Slower, and right.
    let outcome = carryOut(request)
    finish(with: outcome)
  }

  /// Waits for an outcome, in any order; nil where as many have asked as there are requests. Several may ask at a time.
  func next() -> Outcome? {
    monitor.withLock {
      guard unclaimed > 0 else { return nil }
      unclaimed -= 1
      while outcomes.isEmpty { monitor.wait() }
      return outcomes.removeFirst()
    }
  }

  /// Ends the threads, once they have carried out what was asked for.
  func end() {
    let ending = monitor.withLock {
      isEnding = true
      monitor.wakeAll()
      return threads
    }
    for thread in ending { thread.join() }
    monitor.withLock { (threads, isEnding) = ([], false) }
  }

  private func startThreads() {
    while threads.count < count, let thread = attempt({ try Thread(name: name) { [unowned self] in run() } }) {
      threads.append(thread)
    }
  }

  private func run() {
    Thread.askForShortSlices()
    while let request = take() {
      finish(with: carryOut(request))
    }
  }

  private func finish(with outcome: Outcome) {
    monitor.withLock {
      outcomes.append(outcome)
      monitor.wakeAll()
    }
  }

  private func take() -> Request? {
    monitor.withLock {
      while requests.isEmpty, !isEnding { monitor.wait() }
      return requests.isEmpty ? nil : requests.removeFirst()
    }
  }
}
