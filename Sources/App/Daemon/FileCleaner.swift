internal import Adapters
internal import Domain

/// A thread that gives disk space back that nobody needs, a step now and then; it sleeps while there is none.
final class FileCleaner: @unchecked Sendable {  // guarded by `monitor`
  private let cleanup: FileCleanup<LinuxPorts>
  private let memory: TenantMemory<LinuxPorts>
  private let tenant: String
  private let log: Log
  private let monitor = Monitor()
  private var isAsked = false
  private var isEnding = false

  init(memory: TenantMemory<LinuxPorts>, tenant: String, log: Log) {
    cleanup = FileCleanup(memory: memory)
    self.memory = memory
    self.tenant = tenant
    self.log = log
  }

  /// There may be something to do. Allocates nothing, as the faults thread asks too.
  func ask() {
    guard cleanup.isNeeded else { return }
    monitor.withLock {
      isAsked = true
      monitor.wakeAll()
    }
  }

  func end() {
    monitor.withLock {
      isEnding = true
      monitor.wakeAll()
    }
  }

  /// The thread's body.
  func run() {
    let log = Log.Limited(log)
    while waitUntilAsked() {
      while cleanup.isNeeded {
        var delay = cleanup.delayNanoseconds
        do throws(PortFailure) { try cleanup.step() } catch {
          log.warning("tenant \(tenant): \(ProtocolError(error).message)")
          delay += FileCleanup<LinuxPorts>.gradualDelay
        }
        guard pause(delay) else { return }
      }
    }
  }

  /// - Returns: false at the end; so does `pause`.
  private func waitUntilAsked() -> Bool {
    monitor.withLock {
      while !isAsked && !isEnding { monitor.wait() }
      isAsked = false
      return !isEnding
    }
  }

  private func pause(_ nanoseconds: UInt64) -> Bool {
    let deadline = memory.ports.clock.nowNanoseconds + nanoseconds
    return monitor.withLock {
      // It is signalled for other reasons too.
      while !isEnding, memory.ports.clock.nowNanoseconds < deadline { monitor.wait(untilNanoseconds: deadline) }
      return !isEnding
    }
  }
}
