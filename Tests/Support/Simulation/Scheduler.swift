import Glibc

/// Runs threads one at a time: whoever holds the baton runs, and hands it on at every port call to a thread that the
/// seed picks. Time is virtual, and jumps where everybody sleeps.
package final class Scheduler: @unchecked Sendable {  // all of it belongs to whoever holds the baton
  /// How the next thread is picked; each finds other histories.
  package enum Policy: Sendable {
    /// Goes on with the same thread this many times in a thousand, else any.
    case random(stickyPerMille: Int)
    /// The runnable thread of the highest priority; priorities change now and then (Burckhardt and others: "A
    /// randomized scheduler with probabilistic guarantees of finding bugs", ASPLOS 2010).
    case priorities(changePerMille: Int)
  }

  /// No history needs so many steps, or so long.
  private static let largestStepCount = 100_000
  private static let longestTimeNanoseconds: UInt64 = 60_000_000_000
  private static let stepNanoseconds: UInt64 = 300
  private static let delayNanoseconds = 3_000...100_000

  package private(set) var now: UInt64 = 1_000_000
  package private(set) var steps = 0
  /// Why the history could not be run to its end, and who waited for what.
  package private(set) var stuck: String?
  private var random: SimulationRandom
  private let policy: Policy
  /// How often a thread is left aside for long, in a thousand steps.
  private let delaysPerMille: Int
  private var threads: [SimulatedThread] = []
  private var running: SimulatedThread?
  private var runnable: [SimulatedThread] = []
  private let outside = SimulatedThread(name: "outside", body: {})
  /// Where the history's real threads run; nil before it has begun.
  private var processor: Int32?
  /// Goes first whenever it can.
  private var urgent: SimulatedThread?
  /// The history is over, and killed threads leave what they were in: nothing that they do counts.
  package private(set) var isUnwinding = false
  private var unwindingSteps = 0

  package init(random: SimulationRandom, policy: Policy, delaysPerMille: Int) {
    self.random = random
    self.policy = policy
    self.delaysPerMille = delaysPerMille
  }

  package var current: SimulatedThread {
    guard let running else { preconditionFailure("a simulated port is called from outside of its history") }
    return running
  }

  @discardableResult
  package func spawn(_ name: String, _ body: @escaping () -> Void) -> SimulatedThread {
    let thread = SimulatedThread(name: name, body: body)
    if isUnwinding { return thread }
    thread.priority = random.next()
    threads.append(thread)
    if let processor { start(thread, on: processor) }
    return thread
  }

  /// Spawns a thread that goes before all others whenever it can.
  package func spawnUrgent(_ name: String, _ body: @escaping () -> Void) { urgent = spawn(name, body) }

  /// It does nothing any more: where it is, it stays until the history is over.
  package func kill(_ thread: SimulatedThread) {
    precondition(thread !== running, "a thread can't kill itself")
    thread.isKilled = true
  }

  /// Runs everything that was spawned, and returns when all have finished, or nobody can go on.
  package func run() {
    let processor = sched_getcpu()
    self.processor = processor
    for thread in threads { start(thread, on: processor) }
    passOn(from: nil)
    outside.awaitBaton()
    if stuck == nil { unwindKilled() }
    for thread in threads { if stuck == nil { thread.join() } else { thread.leaveBehind() } }
    // What a finished history's threads captured is not to be kept alive by their waits.
    threads.removeAll()
  }

  private func start(_ thread: SimulatedThread, on processor: Int32) {
    thread.start(on: processor) { thread in
      thread.awaitBaton()
      if !thread.isKilled { thread.body() }
      thread.isFinished = true
      self.passOn(from: nil)
    }
  }

  /// Their real threads have to end, one after another: every call of a port comes back at once, and fails if it can. Who
  /// holds the gate goes first, as its private books may expect.
  private func unwindKilled() {
    isUnwinding = true
    var left = threads.filter { $0.isKilled && !$0.isFinished }.sorted { $0.gateHolds > $1.gateHolds }
    while !left.isEmpty {
      let thread = left.removeFirst()
      running = thread
      thread.give()
      outside.awaitBaton()
      if !thread.isFinished { left.append(thread) }
    }
  }

  /// While threads are unwound: lets the others end first.
  package func unwindLater() {
    unwindingStep()
    let me = current
    outside.give()
    me.awaitBaton()
  }

  private func unwindingStep() {
    unwindingSteps += 1
    precondition(unwindingSteps < Self.largestStepCount, "a killed thread does not end: \(current.name)")
  }

  /// Lets others run, perhaps.
  package func yield() {
    if isUnwinding { return unwindingStep() }
    now += Self.stepNanoseconds
    if random.chance(perMille: delaysPerMille) {
      return wait("the processor", deadline: now + UInt64(random.within(Self.delayNanoseconds)), { false })
    }
    steps += 1
    passOn(from: current)
  }

  /// Waits until the condition holds. Conditions may be asked at any time, by anybody, and must change nothing.
  package func wait(for reason: @autoclosure () -> String, until isOver: @escaping () -> Bool) {
    wait(reason(), deadline: nil, isOver)
  }

  /// Waits until the condition holds, or so long.
  package func wait(
    for reason: @autoclosure () -> String, atMost nanoseconds: UInt64, until isOver: @escaping () -> Bool
  ) {
    wait(reason(), deadline: now + nanoseconds, isOver)
  }

  package func sleep(_ nanoseconds: UInt64) { wait("a while", deadline: now + nanoseconds, { false }) }

  package var waiters: String {
    threads.filter(\.isAlive).map { thread in
      "  \(thread.name): \(thread.wait.map { "waits for \($0.reason)" } ?? "runs")"
        + (thread.gateHolds > 0 ? ", holding the gate" : "")
    }.joined(separator: "\n")
  }

  private func wait(_ reason: String, deadline: UInt64?, _ isOver: @escaping () -> Bool) {
    if isUnwinding { return unwindingStep() }
    let me = current
    steps += 1
    me.wait = (reason, isOver)
    me.deadline = deadline
    passOn(from: me)
    me.wait = nil
    me.deadline = nil
  }

  /// Hands the baton to the next thread, and comes back when it is `me` again.
  private func passOn(from me: SimulatedThread?) {
    guard let next = pick() else {
      running = nil
      outside.give()
      me?.awaitBaton()  // for good: the history is stuck
      return
    }
    running = next
    if next === me { return }
    next.give()
    me?.awaitBaton()
  }

  /// - Returns: nil when all have finished, or the history is stuck.
  private func pick() -> SimulatedThread? {
    if stuck != nil || isUnwinding { return nil }
    if steps > Self.largestStepCount || now > Self.longestTimeNanoseconds {
      stuck = "the history does not end; by now:\n\(waiters)"
      return nil
    }
    while true {
      runnable.removeAll(keepingCapacity: true)
      for thread in threads where thread.isRunnable(now: now) { runnable.append(thread) }
      if !runnable.isEmpty { return choose() }
      guard threads.contains(where: \.isAlive) else { return nil }
      guard let deadline = threads.lazy.compactMap({ $0.isAlive ? $0.deadline : nil }).min() else {
        stuck = "nobody can go on:\n\(waiters)"
        return nil
      }
      now = max(now, deadline)
    }
  }

  private func choose() -> SimulatedThread {
    if let urgent, runnable.contains(where: { $0 === urgent }) { return urgent }
    switch policy {
    case .random(let sticky):
      if let running, random.chance(perMille: sticky), runnable.contains(where: { $0 === running }) { return running }
      return random.pick(runnable)
    case .priorities(let change):
      if let running, random.chance(perMille: change) { running.priority = random.next() }
      return runnable.max { $0.priority < $1.priority } ?? runnable[0]
    }
  }
}
