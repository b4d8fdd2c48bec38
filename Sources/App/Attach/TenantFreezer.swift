internal import Adapters
internal import Domain

/// Keeps a tenant's processes off its memory by signals. Where it is a virtual machine whose monitor is known, that is paused
/// first, which drains what I/O it has in flight; one that was paused before stays so.
final class TenantFreezer: Freezer, @unchecked Sendable {  // used by the tenant's one job
  private let signals: SignalFreezer
  private let monitorPath: String?
  private let process: () -> ProcessHandle?
  private let isForeign: Bool
  private let log: Log
  private let record: (_ isPaused: Bool) throws(SystemError) -> Void
  private var monitor: QEMUMonitor?
  /// By us.
  private var isPaused: Bool
  /// By somebody else, who will also let it go on.
  private var wasPaused = false

  private static let retries = 50
  private static let retryMicroseconds: UInt32 = 100_000

  /// - Parameters:
  ///   - process: the tenant's that was attached to.
  ///   - isPaused: an earlier worker has paused it.
  ///   - record: told before it is paused; should we die, another worker lets it go on.
  init(
    signals: SignalFreezer, attachment: Attachment?, process: @escaping () -> ProcessHandle?, isPaused: Bool, log: Log,
    record: @escaping (_ isPaused: Bool) throws(SystemError) -> Void
  ) {
    self.signals = signals
    monitorPath = attachment?.monitor
    isForeign = attachment?.isForeign ?? true
    self.process = process
    self.isPaused = isPaused
    self.log = log
    self.record = record
  }

  func requestStop() throws(PortFailure) {
    if let monitorPath, !isPaused, !wasPaused { try pause(monitorPath) }
    try signals.requestStop()
  }

  func allStopped() throws(PortFailure) -> Bool { try signals.allStopped() }

  /// A process that is stopped can't answer its monitor, so it is let go on first.
  func resume() {
    signals.resume()
    wasPaused = false
    guard isPaused, let monitorPath else { return }
    isPaused = !letGoOn(monitorPath)
    monitor = nil
    attempt { try record(isPaused) }  // who goes on twice goes on
  }

  /// Processes that we have let go on, and that somebody else has stopped at once: a shell with job control does so to those of
  /// its terminal (which touch it as they go on, and get SIGTTOU). Waits a moment where there may be some.
  func stoppedAgain() -> [ProcessHandle] {
    let suspects = signals.resumed.filter(\.hasTerminal)
    for _ in 0..<(suspects.isEmpty ? 0 : Self.looks) {
      let stopped = suspects.filter(\.isStopped)
      if !stopped.isEmpty { return stopped }
      SystemClock().sleep(microseconds: Self.lookMicroseconds)
    }
    return []
  }

  private static let looks = 10
  private static let lookMicroseconds: UInt32 = 10_000

  func beginLook() { signals.beginLook() }
  func look() throws(PortFailure) -> Bool { try signals.look() }

  private func pause(_ path: String) throws(PortFailure) {
    do throws(QEMUMonitor.Failure) {
      let monitor = try QEMUMonitor(path: path, of: process(), isForeign: isForeign)
      guard try monitor.isRunning else {
        wasPaused = true
        return
      }
      do throws(SystemError) { try record(true) } catch {
        throw QEMUMonitor.Failure("\(error)", errorNumber: error.errorNumber)
      }
      isPaused = true
      self.monitor = monitor
      try monitor.stop()
    } catch {
      log.warning(error.message)
      // It may have been paused all the same.
      resume()
      throw PortFailure(.pauseMachine, errorNumber: error.errorNumber)
    }
  }

  private func letGoOn(_ path: String) -> Bool {
    var complaint = ""
    for _ in 0..<Self.retries {
      do throws(QEMUMonitor.Failure) {
        let monitor: QEMUMonitor
        if let open = self.monitor {
          monitor = open
        } else {
          monitor = try QEMUMonitor(path: path, of: process(), isForeign: isForeign)
        }
        try monitor.letGoOn()
        return true
      } catch {
        complaint = error.message
        monitor = nil
        // Its process is dead: nobody listens any more.
        if error.errorNumber == ErrorNumber.noEntry || error.errorNumber == Self.connectionRefused { break }
      }
      SystemClock().sleep(microseconds: Self.retryMicroseconds)
    }
    log.error(
      "the virtual machine was paused by us, and can't be told to go on: \(complaint). Ask its monitor for \"cont\"")
    return false
  }

  /// ECONNREFUSED.
  private static let connectionRefused: Int32 = 111
}
