internal import Adapters
internal import Domain

/// The daemon that is measured, and the benchmark's connection to it.
final class BenchStage {
  let socket: String
  let geometry: PageGeometry
  let swapDirectory: String
  private let directory: String
  private let daemon: ChildProcess
  private let client: Client

  init(swapDirectory: String?, geometry: PageGeometry) throws {
    directory = try Directory.makeTemporary()
    socket = "\(directory)/socket"
    self.geometry = geometry
    self.swapDirectory = swapDirectory ?? Defaults.swapDirectory()
    daemon = try ChildProcess(
      arguments: [
        "serve", "--end-with-parent", "--log-level", "warning", "--socket", socket, "--swap-dir", self.swapDirectory,
      ], keepsErrors: true)
    client = try Demo.connect(to: socket, daemon)
  }

  func end() {
    daemon.end(signal: ChildProcess.terminate)
    Directory.removeFile(socket)
    Directory.remove(directory)
  }

  /// The daemon's processes: who works comes first.
  var processes: [ProcessHandle] { daemon.handle.children() + [daemon.handle] }
  var worker: ProcessMemory { ProcessMemory(of: processes[0]) }

  /// Everything that the daemon holds besides page tables and the tenants' own pages.
  var ownBytes: Int {
    processes.reduce(0) { $0 + ProcessMemory(of: $1).anonymousBytes }
      + ["events", "stored", "request"].reduce(0) {
        $0 + worker.bytes(inMemoryFiles: "swap-monitor-\($1)")
      }
  }

  var tableBytes: Int { worker.bytes(inMemoryFiles: "swap-monitor-tables") }

  @discardableResult
  func ask(_ command: String, _ guest: BenchGuest) throws(Client.Failure) -> JSONValue {
    try client.ask(["op": .string(command), "tenant": .string(guest.name), "wait": true])
  }

  func knows(_ guest: BenchGuest) -> Bool {
    do throws(Client.Failure) {
      return try client.exchange(["op": "status", "tenant": .string(guest.name)])["ok"]?.isTrue == true
    } catch { return false }
  }

  func stagingBytes() -> Int { ProcessMemory.bytes(at: stagingPaths) }

  /// To be looked up beforehand where the daemon is watched: looking for them takes a processor whose other half may be the
  /// daemon's.
  var stagingPaths: [String] { worker.paths(ofMemoryFiles: "swap-monitor-staging") }

  /// What the daemon needs for something.
  func cost<Failure: Error>(_ body: () throws(Failure) -> Void) throws(Failure) -> Cost {
    try Cost.measure(of: processes, body)
  }
}
