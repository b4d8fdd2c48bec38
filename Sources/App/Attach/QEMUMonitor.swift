internal import Adapters
internal import FoundationEssentials

/// A QEMU's monitor socket (QMP: a line of JSON each way). It takes one client at a time, so we stay no longer than needed.
final class QEMUMonitor {
  struct Failure: Error {
    /// For people.
    let message: String
    let errorNumber: Int32

    init(_ message: String, errorNumber: Int32 = protocolError) {
      self.message = message
      self.errorNumber = errorNumber
    }

    /// EPROTO.
    private static let protocolError: Int32 = 71
  }

  private struct Line: Decodable {
    struct Status: Decodable { let running: Bool? }
    struct Trouble: Decodable { let desc: String? }
    let greeting: Trouble?
    let `return`: Status?
    let error: Trouble?

    enum CodingKeys: String, CodingKey {
      case `return`, error
      case greeting = "QMP"
    }
  }

  /// ETIMEDOUT and EPROTO.
  private static let (timedOut, noMonitor): (Int32, Int32) = (110, 71)

  private let path: String
  private let socket: LineSocket
  /// Another client may be connected, who is served first; and a paused machine has its block I/O to end.
  private static let greetingLimitNanoseconds: UInt64 = 2_000_000_000
  private static let answerLimitNanoseconds: UInt64 = 10_000_000_000

  /// - Parameters:
  ///   - process: whose it must be.
  ///   - isForeign: else a socket that was made by somebody who has ended since is believed.
  init(path: String, of process: ProcessHandle?, isForeign: Bool) throws(Failure) {
    self.path = path
    do throws(SystemError) { socket = try LineSocket(connectingTo: path) } catch {
      let reason =
        switch error.errorNumber {
        case Self.timedOut: "no greeting comes: does another client use it?"
        case Self.noMonitor: "that is no QEMU's QMP monitor"
        default: errorText(error.errorNumber)
        }
      throw Failure("the monitor \(path) can't be reached: \(reason)", errorNumber: error.errorNumber)
    }
    guard socket.listener.map({ $0 == process?.pid }) ?? !isForeign else {
      let whose = socket.listener.map { "process \($0)" } ?? "nobody who can be seen"
      throw Failure("\(path) is the monitor of \(whose), not of the tenant's process")
    }
    guard
      try line(within: Self.greetingLimitNanoseconds, "no greeting comes: does another client use it?").greeting != nil
    else { throw Failure("\(path) is no QEMU's QMP monitor") }
    _ = try execute("qmp_capabilities")
  }

  var isRunning: Bool { get throws(Failure) { try execute("query-status").running == true } }

  /// Returns once the virtual processors stand still and block I/O has been written out.
  func stop() throws(Failure) { _ = try execute("stop") }

  func letGoOn() throws(Failure) { _ = try execute("cont") }

  private func execute(_ command: String) throws(Failure) -> Line.Status {
    do throws(SystemError) { try socket.writeLine(Array(#"{"execute":"\#(command)"}"#.utf8)) } catch {
      throw Failure("the monitor \(path) is gone: \(error)", errorNumber: error.errorNumber)
    }
    let deadline = SystemClock().nowNanoseconds + Self.answerLimitNanoseconds
    while true {  // events come in between
      let now = SystemClock().nowNanoseconds
      let line = try line(within: deadline > now ? deadline - now : 0, "it does not answer \(command)")
      if let error = line.error {
        throw Failure("the monitor \(path) refuses \(command): \(error.desc ?? "no reason")")
      }
      if let answer = line.return { return answer }
    }
  }

  private func line(within limit: UInt64, _ complaint: String) throws(Failure) -> Line {
    let bytes: [UInt8]
    do throws(SystemError) {
      bytes = try socket.readLine(deadlineNanoseconds: SystemClock().nowNanoseconds + limit)
    } catch {
      throw Failure(
        "the monitor \(path): \(complaint) (\(errorText(error.errorNumber)))", errorNumber: error.errorNumber)
    }
    do { return try JSONDecoder().decode(Line.self, from: Data(bytes)) } catch {
      throw Failure("\(path) is no QEMU's QMP monitor")
    }
  }
}
