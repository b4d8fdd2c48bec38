internal import Adapters
internal import Domain

/// A daemon of one's own, in a directory that goes with it, and a connection to it.
final class Stage {
  let socket: String
  let swapDirectory: String
  let daemon: ChildProcess
  let client: Client
  private let directory: String

  private static let patienceNanoseconds: UInt64 = 10_000_000_000

  /// - Parameters:
  ///   - arguments: of the command that wants it; some are the daemon's.
  ///   - keepsErrors: its log goes to standard error.
  init(_ arguments: Arguments, _ options: [String] = [], keepsErrors: Bool = true) throws {
    directory = try Directory.makeTemporary()
    socket = "\(directory)/socket"
    swapDirectory = arguments.value("swap-dir") ?? Defaults.swapDirectory()
    let words = [
      "serve", "--end-with-parent", "--log-level", arguments.value("log-level") ?? "warning", "--socket", socket,
      "--swap-dir", swapDirectory,
    ]
    do {
      daemon = try ChildProcess(arguments: words + options, keepsErrors: keepsErrors)
      client = try Self.connect(to: socket, daemon, advice: keepsErrors ? "" : "; --log-level info shows why")
    } catch {
      Self.clear(directory)
      throw error
    }
  }

  /// The daemon needs a moment until it listens.
  private static func connect(to socket: String, _ daemon: ChildProcess, advice: String) throws -> Client {
    let clock = SystemClock()
    let deadline = clock.nowNanoseconds + patienceNanoseconds
    while true {
      do throws(CommandFailure) {
        let client = try Client(path: socket)
        _ = try client.list()
        return client
      } catch {
        guard daemon.handle.isAlive else { throw CommandFailure(message: "the daemon could not start\(advice)") }
        guard clock.nowNanoseconds < deadline else {
          daemon.end(signal: ChildProcess.terminate)
          throw CommandFailure(message: error.message)
        }
        clock.sleep(microseconds: 5000)
      }
    }
  }

  /// Nothing is left behind then, however this process ends; and nobody can connect any more.
  func hide() { Self.clear(directory) }

  func end() {
    daemon.end(signal: ChildProcess.terminate)
    hide()
  }

  private static func clear(_ directory: String) {
    attempt { try File.remove("\(directory)/socket") }
    Directory.remove(directory)
  }

  @discardableResult
  func ask(_ command: String, _ tenant: String) throws(CommandFailure) -> JSONValue {
    try client.ask(["op": .string(command), "tenant": .string(tenant), "wait": true])
  }
}

extension Arguments {
  /// How much memory a tenant shall have: no more than there is, where nothing would come of it but the OOM killer.
  func memory(
    standard: UInt64, _ allowed: Range<UInt64>
  ) throws -> (geometry: PageGeometry, pageCount: Int) {
    guard let geometry = Machine.pageGeometry() else {
      throw CommandFailure(message: "this machine's page size is not a power of two")
    }
    let bytes = try size("memory") ?? standard
    guard allowed.contains(bytes) else {
      let (least, most) = (ByteSize.text(allowed.lowerBound), ByteSize.text(allowed.upperBound))
      throw UsageError(message: "--memory: \(ByteSize.text(bytes)); between \(least) and \(most) is right")
    }
    if let available = Machine.memory("MemAvailable:"), bytes > available {
      throw CommandFailure(
        message: "--memory: \(ByteSize.text(bytes)), and there is no more than \(ByteSize.text(UInt64(available))) "
          + "available on this machine (MemAvailable)")
    }
    return (geometry, geometry.pages(inBytes: bytes))
  }

  /// Shows what was found, as text or JSON. One JSON object in all: a failure takes it along.
  ///
  /// - Parameter complaint: what is wrong; nil when all is well.
  func conclude(_ report: JSONValue, _ text: String, complaint: String?) throws(CommandFailure) {
    if !has("json") {
      Console.write(text)
    } else if complaint == nil {
      var report = report
      report["ok"] = true
      ClientCommands.printJSON(report)
    }
    if let complaint { throw CommandFailure(message: complaint, report: report) }
  }
}
