internal import Glibc

/// Reads files of /proc/PID that take the process's memory lock, which it can hold for ever: a read is waited for for a while,
/// and then left behind, with its thread. Of one process there is one such thread at most.
final class PatientReader {
  enum Outcome {
    case bytes([UInt8])
    case unreadable
    /// The process holds its memory lock.
    case late
  }

  private let patienceNanoseconds: UInt64
  private var lane: ReadingThread?
  /// Processes that a thread left behind still waits for.
  private static let late = Guarded<Set<Int32>>([])

  init(patienceNanoseconds: UInt64 = 1_000_000_000) { self.patienceNanoseconds = patienceNanoseconds }

  deinit { lane?.end() }

  /// - Parameter name: of a file in /proc/PID.
  func read(_ name: String, of pid: Int32, limit: Int) -> Outcome {
    if Self.late.withLock({ $0.contains(pid) }) { return .late }
    if lane == nil { do throws(SystemError) { lane = try ReadingThread() } catch {} }
    guard let thread = lane else { return .unreadable }
    guard let answer = thread.read(name, of: pid, limit: limit, patienceNanoseconds: patienceNanoseconds)
    else {
      Self.late.withLock { _ = $0.insert(pid) }
      thread.end { Self.late.withLock { _ = $0.remove(pid) } }
      lane = nil
      return .late
    }
    return answer.map { .bytes($0) } ?? .unreadable
  }
}

/// One read at a time, on a thread of its own.
private final class ReadingThread: @unchecked Sendable {  // its fields are guarded by `monitor`
  private let monitor = Monitor()
  private var task: (name: String, pid: Int32, limit: Int)?
  private var answer: [UInt8]??
  private var isEnding = false
  private var atEnd: @Sendable () -> Void = {}

  init() throws(SystemError) { try Thread.runDetached(name: "look") { [self] in serve() } }

  /// - Returns: nil when it took too long; then the thread is of no more use.
  func read(_ name: String, of pid: Int32, limit: Int, patienceNanoseconds: UInt64) -> [UInt8]?? {
    let deadline = SystemClock().nowNanoseconds + patienceNanoseconds
    return monitor.withLock {
      answer = nil
      task = (name, pid, limit)
      monitor.wakeAll()
      while answer == nil && SystemClock().nowNanoseconds < deadline { monitor.wait(untilNanoseconds: deadline) }
      return answer
    }
  }

  /// - Parameter action: done once nothing is read any more.
  func end(_ action: @escaping @Sendable () -> Void = {}) {
    monitor.withLock {
      isEnding = true
      atEnd = action
      monitor.wakeAll()
    }
  }

  private func serve() {
    while let (name, pid, limit) = next() {
      var bytes: [UInt8]?
      do throws(SystemError) { bytes = try ProcessFiles(pid: pid).bytes(name, limit: limit) } catch {}
      monitor.withLock {
        answer = .some(bytes)
        monitor.wakeAll()
      }
    }
    monitor.withLock { atEnd }()
  }

  private func next() -> (name: String, pid: Int32, limit: Int)? {
    monitor.withLock {
      while task == nil && !isEnding { monitor.wait() }
      defer { task = nil }
      return isEnding ? nil : task
    }
  }
}
