internal import Adapters
internal import Domain

/// Whether a tenant's memory waits for room to come back to: for `status`, and for the log, which says it once and says when
/// it is over.
final class MemoryWait: @unchecked Sendable {  // guarded by `monitor`
  /// Room that comes and goes makes no new lines: only so long after the last wait it is over.
  private static let calmNanoseconds: UInt64 = 1_000_000_000
  private let tenant: String
  private let log: Log
  private let monitor = Monitor()
  private var isWaiting = false
  private var isTold = false
  private var lastNanoseconds: UInt64 = 0

  init(tenant: String, log: Log) {
    self.tenant = tenant
    self.log = log
  }

  var isOn: Bool { monitor.withLock { isWaiting } }

  /// - Parameter shortage: nil: it goes on.
  func note(_ shortage: MemoryShortage?) {
    let now = SystemClock().nowNanoseconds
    let line: String? = monitor.withLock {
      isWaiting = shortage != nil
      if let shortage {
        lastNanoseconds = now
        defer { isTold = true }
        return isTold ? nil : "disable waits for memory, because \(shortage.text). Faults are served as ever"
      }
      guard isTold, now - lastNanoseconds >= Self.calmNanoseconds else { return nil }
      isTold = false
      return "there is memory again, and disable goes on"
    }
    guard let line else { return }
    if shortage == nil { log.info("tenant \(tenant): \(line)") } else { log.warning("tenant \(tenant): \(line)") }
  }

  /// The job has ended.
  func end() {
    let wasTold = monitor.withLock {
      defer { (isWaiting, isTold) = (false, false) }
      return isTold
    }
    if wasTold { log.info("tenant \(tenant): disable waits for memory no more") }
  }
}

extension MemoryShortage {
  /// For people, after "because".
  var text: String {
    switch self {
    case .machine: "the machine has too little memory available (MemAvailable)"
    case .ownLimit: "the daemon's control group, or one above it, is near its memory limit"
    case .tenantLimit: "the tenant's control group, or one above it, is near its memory limit"
    case .stagingLimit: "all staging memory together has reached its limit (serve --staging-limit)"
    case .kernel: "the kernel had no memory for staging"
    }
  }
}
