internal import Adapters

/// What the daemon that is measured holds, and what it needs for something.
extension Stage {
  /// Worker, attendants and keeper.
  var processes: [ProcessHandle] { daemon.handle.workers() + daemon.handle.attendants() + [daemon.handle] }
  var worker: ProcessMemory { ProcessMemory(of: processes[0]) }

  /// Everything that the daemon holds besides page tables and the tenants' own pages.
  var ownBytes: Int {
    processes.reduce(0) { $0 + ProcessMemory(of: $1).anonymousBytes }
      + ["events", "stored", "request"].reduce(0) { $0 + worker.bytes(inMemoryFiles: "swap-monitor-\($1)") }
  }

  var tableBytes: Int { worker.bytes(inMemoryFiles: "swap-monitor-tables") }
  var stagingBytes: Int { ProcessMemory.bytes(at: stagingPaths) }

  /// To be looked up beforehand where the daemon is watched: looking for them takes a processor whose other half may be the
  /// daemon's.
  var stagingPaths: [String] { worker.paths(ofMemoryFiles: "swap-monitor-staging") }

  /// Returns once so much is left: the daemon gives copies back a little later than nobody needs them any more.
  ///
  /// - Parameter paths: `stagingPaths`.
  func awaitStaging(of bytes: Int, at paths: [String]) throws(CommandFailure) {
    let clock = SystemClock()
    let deadline = clock.nowNanoseconds + Self.staleNanoseconds
    while ProcessMemory.bytes(at: paths) > bytes {
      guard clock.nowNanoseconds < deadline else {
        let left = ByteSize.text(UInt64(ProcessMemory.bytes(at: paths)))
        throw CommandFailure(
          message: "the daemon keeps \(left) of copies, of which \(ByteSize.text(UInt64(bytes))) are needed")
      }
      clock.sleep(microseconds: 100)
    }
  }

  private static let staleNanoseconds: UInt64 = 10_000_000_000

  func knows(_ tenant: String) -> Bool {
    attempt { try client.exchange(["op": "status", "tenant": .string(tenant)]) }?["ok"]?.isTrue == true
  }

  func cost<Failure: Error>(_ body: () throws(Failure) -> Void) throws(Failure) -> Cost {
    try Cost.measure(of: processes, body)
  }
}
