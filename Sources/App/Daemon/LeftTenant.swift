internal import Adapters
internal import Domain

/// What is to be done with a tenant that an earlier worker has left, on the tenant's own thread: all of it may wait for locks
/// that the tenant's processes hold.
struct LeftTenant: Sendable {
  private let name: String
  private let memory: TenantMemory<LinuxPorts>
  private let begin = SystemClock().nowNanoseconds
  /// nil where nothing was monitored.
  private var takeOver: TakeOver<LinuxPorts>?
  private(set) var mayBeServed = false
  /// Earlier workers that still have a thread in the middle of something of this tenant's.
  private let former: [ProcessHandle]
  private var hasComplained = false
  private static let lookNanoseconds: UInt64 = 10_000_000

  /// - Parameter isMonitored: else a process may still have been registered for a trial just then, and what a gradual cleanup
  ///   had to give back is not known any more.
  init(name: String, memory: TenantMemory<LinuxPorts>, isMonitored: Bool, after former: [ProcessHandle])
    throws(PortFailure)
  {
    self.name = name
    self.former = former
    self.memory = memory
    guard isMonitored else { return }
    let takeOver = TakeOver(memory: memory)
    try takeOver.openBooks()
    self.takeOver = takeOver
  }

  mutating func step(_ log: Log) throws(JobFailure) -> JobStep {
    if mayBeServed { return try takeOver?.step() ?? .finished }
    if let worker = former.first(where: \.isAlive) {
      if !hasComplained {
        log.warning(
          "tenant \(name): is not served before a thread of worker \(worker.pid) ends, which waits for a lock that a process of "
            + "the tenant's holds, or for the disk")
      }
      hasComplained = true
      return .retryAfter(nanoseconds: Self.lookNanoseconds)
    }
    for process in memory.ports.processes { memory.ports.mappingSearch.follow(process) }
    guard takeOver != nil else {
      endTrials(log)
      letGoOn()
      return .finished
    }
    do throws(PortFailure) { try takeOver?.begin() } catch { throw .port(error) }
    letGoOn()
    mayBeServed = true
    if let lost = takeOver?.lostChildren, lost > 0 {
      log.error(
        "tenant \(name): \(lost.counted("forked child", plural: "forked children")) came just as the worker died, and can't "
          + "be served: what they touch reads as zeros")
    }
    log.info("tenant \(name): taken over in \((SystemClock().nowNanoseconds - begin) / 1000) us")
    return .again
  }

  private func endTrials(_ log: Log) {
    do throws(PortFailure) {
      for process in memory.ports.processes where process.isAlive { try process.unregister() }
      try memory.ports.file.truncate()
    } catch { log.warning("tenant \(name): \(ProtocolError(error).message)") }
  }

  /// Whom the earlier worker had stopped. Not before half-done punches are finished: protection does not stop readers.
  private func letGoOn() {
    let pids = Set(memory.ports.holdings.recordedStops)
    for handle in memory.ports.processes.compactMap(\.handle) where pids.contains(handle.pid) { handle.letGoOn() }
    if !pids.isEmpty { memory.ports.holdings.drop(.stops) }
  }
}
