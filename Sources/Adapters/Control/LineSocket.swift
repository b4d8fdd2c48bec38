internal import Glibc

/// A stream socket that carries lines, as a QEMU's monitor is.
package final class LineSocket {
  private let descriptor: Descriptor
  private var unread: [UInt8] = []
  /// Of a line; a peer that sends longer ones is none that we understand.
  private static let longestLine = 1 << 20

  package init(connectingTo path: String) throws(SystemError) {
    let call = PrivilegedCall(.connect, text: path)
    let answer = try Privileges.perform(call, operation: "connecting to \(path)")
    guard let descriptor = answer.descriptor else { throw SystemError("connecting", errorNumber: EPROTO) }
    self.descriptor = descriptor
  }

  /// Who listened there, if that is still to be seen from here.
  package var listener: Int32? {
    var credentials = ucred()
    var length = socklen_t(MemoryLayout<ucred>.size)
    guard getsockopt(descriptor.raw, SOL_SOCKET, SO_PEERCRED, &credentials, &length) == 0, credentials.pid > 0,
      ProcessFiles(pid: credentials.pid).user != nil
    else { return nil }
    return credentials.pid
  }

  /// A short line: a peer that has no room for it does not read at all.
  package func writeLine(_ line: [UInt8]) throws(SystemError) {
    let bytes = line + [UInt8(ascii: "\n")]
    let count = try checked("sending a line") { send(descriptor.raw, bytes, bytes.count, Int32(MSG_NOSIGNAL)) }
    guard count == bytes.count else { throw SystemError("sending a line", errorNumber: EAGAIN) }
  }

  /// - Throws: ETIMEDOUT when none has come by then (of `SystemClock`), ECONNRESET when none will.
  package func readLine(deadlineNanoseconds: UInt64) throws(SystemError) -> [UInt8] {
    while true {
      if let end = unread.firstIndex(of: UInt8(ascii: "\n")) {
        defer { unread.removeFirst(end + 1) }
        return Array(unread[..<end])
      }
      guard unread.count <= Self.longestLine else { throw SystemError("reading a line", errorNumber: EMSGSIZE) }
      let now = SystemClock().nowNanoseconds
      guard now < deadlineNanoseconds,
        !Readable.wait(for: [descriptor], timeoutNanoseconds: deadlineNanoseconds - now).isEmpty
      else { throw SystemError("waiting for an answer", errorNumber: ETIMEDOUT) }
      var chunk = [UInt8](repeating: 0, count: 4096)
      let (count, errorNumber) = retryingInterrupts { read(descriptor.raw, &chunk, chunk.count) }
      if count < 0 && errorNumber == EAGAIN { continue }
      guard count > 0 else { throw SystemError("reading a line", errorNumber: count == 0 ? ECONNRESET : errorNumber) }
      unread += chunk[0..<count]
    }
  }
}
