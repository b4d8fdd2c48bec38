import Glibc

/// A thread of a history. It runs on a real thread, but only while it holds the baton.
package final class SimulatedThread: @unchecked Sendable {  // all of it belongs to whoever holds the scheduler's baton
  package let name: String
  let body: () -> Void
  private let baton = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)
  private var handle = pthread_t()
  private var isStarted = false

  /// What it waits for, and how to tell that it need not any more; nil while it can run.
  var wait: (reason: String, isOver: () -> Bool)?
  var deadline: UInt64?
  package internal(set) var isFinished = false
  /// It never runs again while its history lasts.
  var isKilled = false
  var priority: UInt64 = 0
  /// Holds of the gate and of the ledger's lock: neither may be kept where it must not.
  var gateHolds = 0
  var lockHolds = 0

  var isAlive: Bool { !isFinished && !isKilled }
  package var isWaiting: Bool { wait != nil }

  init(name: String, body: @escaping () -> Void) {
    self.name = name
    self.body = body
    sem_init(baton, 0, 0)
  }

  deinit {
    sem_destroy(baton)
    baton.deallocate()
  }

  func give() { sem_post(baton) }

  func awaitBaton() {
    while sem_wait(baton) != 0 {}  // EINTR
  }

  /// Starts the real thread; `run` is called on it. All of a history's threads stay on one processor, because only one runs
  /// at a time: handing the baton on takes half the time then.
  func start(on processor: Int32, _ run: @escaping (SimulatedThread) -> Void) {
    final class Start {
      let thread: SimulatedThread
      let run: (SimulatedThread) -> Void
      init(_ thread: SimulatedThread, _ run: @escaping (SimulatedThread) -> Void) {
        (self.thread, self.run) = (thread, run)
      }
    }
    let start = Unmanaged.passRetained(Start(self, run))
    var attributes = pthread_attr_t()
    pthread_attr_init(&attributes)
    defer { pthread_attr_destroy(&attributes) }
    var processors = cpu_set_t()
    withUnsafeMutableBytes(of: &processors) { bytes in
      let number = Int(max(0, processor)) % (bytes.count * 8)
      bytes[number / 8] = 1 << UInt8(number % 8)
    }
    pthread_attr_setaffinity_np(&attributes, MemoryLayout<cpu_set_t>.size, &processors)
    let error = pthread_create(
      &handle, &attributes,
      { argument in
        guard let argument else { return nil }
        let start = Unmanaged<Start>.fromOpaque(argument).takeRetainedValue()
        start.run(start.thread)
        return nil
      }, start.toOpaque())
    precondition(error == 0, "the simulation can't start a thread")
    isStarted = true
  }

  func join() { if isStarted { pthread_join(handle, nil) } }

  /// Its history is stuck: the real thread is left behind, asleep for good.
  func leaveBehind() { if isStarted { pthread_detach(handle) } }

  /// Whether it can run at this time.
  func isRunnable(now: UInt64) -> Bool {
    if !isAlive { return false }
    guard let wait else { return true }
    if let deadline, deadline <= now { return true }
    return wait.isOver()
  }
}
