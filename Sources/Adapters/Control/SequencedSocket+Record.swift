internal import Glibc

/// A connection whose requests outlive the process that serves it.
extension SequencedSocket {
  /// Takes the packet that `peek` has seen, into the record. Descriptors that come along once more are closed.
  package func take(into record: RequestRecord) throws(SystemError) {
    let raw = descriptor.raw
    let next = try checked("looking at a packet's length") {
      recv(raw, nil, 0, Int32(MSG_PEEK) | Int32(MSG_TRUNC) | Int32(MSG_DONTWAIT))
    }
    let space = record.prepare(bytes: next)
    var control = [UInt64](repeating: 0, count: RequestRecord.controlBytes / 8)
    let (_, errorNumber) = control.withUnsafeMutableBytes { ancillary in
      withMessage(space, ancillary) { message in
        record.received.pointee.msg_hdr = message
        return retryingInterrupts {
          recvmmsg(raw, record.received, 1, Int32(MSG_DONTWAIT) | Int32(MSG_CMSG_CLOEXEC), nil)
        }
      }
    }
    if errorNumber != 0 { throw SystemError("taking a packet", errorNumber: errorNumber) }
    // There is room for none beside the credentials, unless the socket is one without credentials.
    let count = record.received.pointee.msg_hdr.msg_controllen
    control.withUnsafeBytes { _ = ControlMessage.descriptors(in: $0, count: count) }
    guard record.phase == .taken else { throw SystemError("taking a packet", errorNumber: ECONNRESET) }
  }

  /// Sends the reply to the record's request, and clears it.
  ///
  /// - Returns: false when the other end does not read, and this one does not wait.
  package func send(_ bytes: [UInt8], ending record: RequestRecord) throws(SystemError) -> Bool {
    var bytes = bytes
    let raw = descriptor.raw
    let nothing = UnsafeMutableRawBufferPointer(start: nil, count: 0)
    let (count, errorNumber) = bytes.withUnsafeMutableBytes { data in
      withMessage(data, nothing) { message in
        record.sent.pointee.msg_hdr = message
        return retryingInterrupts {
          sendmmsg(raw, record.sent, 1, Int32(MSG_NOSIGNAL) | Int32(MSG_EOR) | Int32(MSG_DONTWAIT))
        }
      }
    }
    if count >= 0 {
      record.clear()
      return true
    }
    if errorNumber == EAGAIN { return false }
    throw SystemError("sending a reply", errorNumber: errorNumber)
  }
}
