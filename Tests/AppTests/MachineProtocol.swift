import Glibc
import Testing

@testable import Adapters
@testable import App

/// A connection by the QEMU Machine Protocol: JSON, a line each.
final class MachineProtocol {
  private let socket: UnsafeMutablePointer<FILE>

  init(path: String, limitSeconds: Int) throws {
    let raw = Glibc.socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    var limit = timeval(tv_sec: limitSeconds, tv_usec: 0)
    setsockopt(raw, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    do { try withAddress(path, "connecting to \(path)") { connect(raw, $0, $1) } } catch {
      close(raw)
      throw error
    }
    let stream = try #require(fdopen(raw, "r+"))
    socket = stream
    setvbuf(stream, nil, _IONBF, 0)
    _ = try receive("QMP")
    _ = try ask("qmp_capabilities")
  }

  deinit { fclose(socket) }

  /// - Returns: what it returns; a refusal is thrown.
  @discardableResult
  func ask(_ command: String, _ arguments: [String: JSONValue] = [:]) throws -> JSONValue {
    let request = JSONValue.object(["execute": .string(command), "arguments": .object(arguments)])
    fputs(String(decoding: request.bytes, as: UTF8.self) + "\n", socket)
    return try receive("return")
  }

  /// The next line with that key; events are passed over.
  private func receive(_ key: String) throws -> JSONValue {
    var line: UnsafeMutablePointer<CChar>?
    var size = 0
    defer { free(line) }
    while getline(&line, &size, socket) > 0, let text = line {
      let answer = JSONValue.parse(Array(String(cString: text).utf8)) ?? .null
      if let value = answer[key] { return value }
      if let error = answer["error"] { throw Complaint("QEMU refuses: \(error)") }
    }
    throw Complaint("QEMU does not answer")
  }
}
