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

  func knows(_ tenant: String) -> Bool {
    attempt { try client.exchange(["op": "status", "tenant": .string(tenant)]) }?["ok"]?.isTrue == true
  }

  func cost<Failure: Error>(_ body: () throws(Failure) -> Void) throws(Failure) -> Cost {
    try Cost.measure(of: processes, body)
  }
}
