internal import Glibc

/// A packet and the descriptors that came with it.
package struct Packet: Sendable {
  package let bytes: [UInt8]
  package let descriptors: [Descriptor]
  /// The packet was longer than the limit, and its end is lost.
  package let isTruncated: Bool
  /// More descriptors came than can be taken; the rest was closed by the kernel.
  package let lostDescriptors: Bool

  package init(bytes: [UInt8], descriptors: [Descriptor], isTruncated: Bool, lostDescriptors: Bool) {
    self.bytes = bytes
    self.descriptors = descriptors
    self.isTruncated = isTruncated
    self.lostDescriptors = lostDescriptors
  }
}

/// Who is at the other end, as of `connect`.
package struct Peer: Sendable {
  package let user: UInt32
  /// nil where the process is dead, or not to be seen from our PID namespace.
  package let process: ProcessHandle?
}

/// A connected AF_UNIX socket of type SOCK_SEQPACKET.
package final class SequencedSocket: Sendable {
  /// Of a packet, in bytes, requests and replies alike.
  package static let packetLimit = 65_536
  /// SCM_MAX_FD of the kernel.
  package static let descriptorLimit = 253

  package let descriptor: Descriptor

  /// A connection that was let in.
  init(accepted descriptor: Descriptor) throws(SystemError) {
    self.descriptor = descriptor
    // With credentials on every packet, an empty packet can be told from the connection's end: that has none.
    var on: Int32 = 1
    try checked("SO_PASSCRED") {
      setsockopt(descriptor.raw, SOL_SOCKET, SO_PASSCRED, &on, socklen_t(MemoryLayout<Int32>.size))
    }
  }

  /// Takes over a connected socket that somebody else has set up.
  package init(adopting descriptor: Descriptor) { self.descriptor = descriptor }

  /// Connects, as a client; reads and writes block.
  package init(connectingTo path: String) throws(SystemError) {
    descriptor = try Self.makeSocket(flags: 0)
    let raw = descriptor.raw
    try withAddress(path, "connecting to \(path)") { connect(raw, $0, $1) }
  }

  static func makePair() throws(SystemError) -> (Descriptor, Descriptor) {
    // Safety: both numbers are new, and owned from here on.
    var ends: [Int32] = [0, 0]
    let kind = Int32(SOCK_SEQPACKET.rawValue | SOCK_CLOEXEC.rawValue)
    try checked("socketpair") { socketpair(AF_UNIX, kind, 0, &ends) }
    return (Descriptor(owning: ends[0]), Descriptor(owning: ends[1]))
  }

  static func makeSocket(flags: Int32) throws(SystemError) -> Descriptor {
    let kind = Int32(SOCK_SEQPACKET.rawValue | SOCK_CLOEXEC.rawValue) | flags
    return Descriptor(owning: try checked("socket") { socket(AF_UNIX, kind, 0) })
  }

  /// Ends the connection for the other side, whoever else holds this end.
  package func shutDown() { _ = shutdown(descriptor.raw, Int32(SHUT_RDWR)) }

  package enum Received {
    case packet(Packet)
    case nothingYet
    case closed
  }

  package func receive() throws(SystemError) -> Received { try receive(flags: 0) }

  /// Looks at the next packet and leaves it there: its bytes, and duplicates of its descriptors.
  package func peek() throws(SystemError) -> Received { try receive(flags: Int32(MSG_PEEK) | Int32(MSG_DONTWAIT)) }

  private func receive(flags: Int32) throws(SystemError) -> Received {
    var bytes = [UInt8](repeating: 0, count: Self.packetLimit + 1)
    var control = [UInt64](repeating: 0, count: (ControlMessage.spaceForEverything + 7) / 8)
    var (resultFlags, controlBytes): (Int32, Int) = (0, 0)
    let raw = descriptor.raw
    let (count, errorNumber) = bytes.withUnsafeMutableBytes { data in
      control.withUnsafeMutableBytes { ancillary in
        withMessage(data, ancillary) { message in
          defer { (resultFlags, controlBytes) = (message.msg_flags, message.msg_controllen) }
          return retryingInterrupts { recvmsg(raw, &message, flags | Int32(MSG_CMSG_CLOEXEC)) }
        }
      }
    }
    guard count >= 0 else {
      if errorNumber == EAGAIN { return .nothingYet }
      if errorNumber == ECONNRESET { return .closed }
      throw SystemError("receiving a packet", errorNumber: errorNumber)
    }
    let descriptors = control.withUnsafeBytes { ControlMessage.descriptors(in: $0, count: controlBytes) }
    if count == 0 && controlBytes == 0 { return .closed }
    return .packet(
      Packet(
        bytes: Array(bytes[0..<min(count, Self.packetLimit)]), descriptors: descriptors,
        isTruncated: count > Self.packetLimit || resultFlags & Int32(MSG_TRUNC) != 0,
        lostDescriptors: resultFlags & Int32(MSG_CTRUNC) != 0))
  }

  /// - Returns: false when the other end does not read, and this one does not wait.
  package func send(_ bytes: [UInt8], descriptors: [Descriptor] = []) throws(SystemError) -> Bool {
    var control = ControlMessage.make(descriptors)
    var bytes = bytes
    let raw = descriptor.raw
    let (count, errorNumber) = bytes.withUnsafeMutableBytes { data in
      control.withUnsafeMutableBytes { ancillary in
        withMessage(data, ancillary) { message in
          retryingInterrupts { sendmsg(raw, &message, Int32(MSG_NOSIGNAL) | Int32(MSG_EOR)) }
        }
      }
    }
    if count >= 0 { return true }
    if errorNumber == EAGAIN { return false }
    throw SystemError("sending a packet", errorNumber: errorNumber)
  }

  package func peer() throws(SystemError) -> Peer {
    var credentials = ucred()
    var length = socklen_t(MemoryLayout<ucred>.size)
    let raw = descriptor.raw
    try checked("SO_PEERCRED") { getsockopt(raw, SOL_SOCKET, SO_PEERCRED, &credentials, &length) }
    var pidfd: Int32 = -1
    length = socklen_t(MemoryLayout<Int32>.size)
    if getsockopt(raw, SOL_SOCKET, Linux.SO_PEERPIDFD, &pidfd, &length) == 0, pidfd >= 0 {
      let owned = Descriptor(owning: pidfd)
      return Peer(user: credentials.uid, process: attempt { try ProcessHandle(pidfd: owned) })
    }
    // Before Linux 6.5 the number has to do; it is 0 across PID namespaces.
    let process = credentials.pid > 0 ? attempt { try ProcessHandle(pid: credentials.pid) } : nil
    return Peer(user: credentials.uid, process: process)
  }
}

/// Calls with the header of a message that is made of these bytes, and has that beside them.
func withMessage<Result>(
  _ data: UnsafeMutableRawBufferPointer, _ ancillary: UnsafeMutableRawBufferPointer, _ body: (inout msghdr) -> Result
) -> Result {
  // Safety: the header's pointers live until the body has returned; whoever keeps the header does not follow them.
  var vector = iovec(iov_base: data.baseAddress, iov_len: data.count)
  return withUnsafeMutablePointer(to: &vector) { vector in
    var message = msghdr()
    (message.msg_iov, message.msg_iovlen) = (vector, 1)
    (message.msg_control, message.msg_controllen) = (ancillary.count > 0 ? ancillary.baseAddress : nil, ancillary.count)
    return body(&message)
  }
}

/// SCM_RIGHTS by hand: the CMSG macros are not imported. A `cmsghdr` is a 64-bit length, a level and a type, 16 bytes in
/// all, and data follows it; everything is aligned to 8 bytes.
enum ControlMessage {
  private static let headerBytes = 16

  static func length(descriptors: Int) -> Int { headerBytes + 4 * descriptors }
  static func space(descriptors: Int) -> Int { headerBytes + ((4 * descriptors + 7) & ~7) }

  /// The most descriptors that come at once, and the credentials (`struct ucred`, 12 bytes).
  static var spaceForEverything: Int { space(descriptors: SequencedSocket.descriptorLimit) + space(descriptors: 3) }

  static func make(_ descriptors: [Descriptor]) -> [UInt8] {
    guard !descriptors.isEmpty else { return [] }
    var message = [UInt8](repeating: 0, count: space(descriptors: descriptors.count))
    message.withUnsafeMutableBytes { bytes in
      bytes.storeBytes(of: length(descriptors: descriptors.count), as: Int.self)
      bytes.storeBytes(of: SOL_SOCKET, toByteOffset: 8, as: Int32.self)
      bytes.storeBytes(of: Int32(0x01), toByteOffset: 12, as: Int32.self)  // SCM_RIGHTS
      for (number, descriptor) in descriptors.enumerated() {
        bytes.storeBytes(of: descriptor.raw, toByteOffset: headerBytes + 4 * number, as: Int32.self)
      }
    }
    return message
  }

  /// Takes every descriptor over that the control data holds.
  static func descriptors(in control: UnsafeRawBufferPointer, count: Int) -> [Descriptor] {
    var found: [Descriptor] = []
    var position = 0
    while position + headerBytes <= count {
      let length = control.load(fromByteOffset: position, as: Int.self)
      guard length >= headerBytes, length <= count - position else { break }
      let level = control.load(fromByteOffset: position + 8, as: Int32.self)
      let type = control.load(fromByteOffset: position + 12, as: Int32.self)
      if level == SOL_SOCKET && type == 0x01 {
        for offset in stride(from: position + headerBytes, to: position + length, by: 4) {
          found.append(Descriptor(owning: control.load(fromByteOffset: offset, as: Int32.self), isForeign: true))
        }
      }
      position += (length + 7) & ~7
    }
    return found
  }
}

/// Makes a call with a `sockaddr_un` for a path.
///
/// - Parameter isAbstract: the path's first byte stands for the zero byte of a name without a file (unix(7)).
func withAddress(
  _ path: String, isAbstract: Bool = false, _ operation: @autoclosure () -> String,
  _ call: (__CONST_SOCKADDR_ARG, socklen_t) -> Int32
) throws(SystemError) {
  var address = sockaddr_un()
  address.sun_family = sa_family_t(AF_UNIX)
  var bytes = Array(path.utf8)
  if isAbstract { bytes[0] = 0 }
  // Safety: sun_path is copied into within its bounds, and stays zero-terminated.
  let fits = withUnsafeMutableBytes(of: &address.sun_path) { space in
    guard bytes.count < space.count else { return false }
    space.copyBytes(from: bytes)
    return true
  }
  guard fits else {
    let most = MemoryLayout.size(ofValue: address.sun_path) - 1
    throw SystemError("using the socket path \(path) (at most \(most) bytes)", errorNumber: ENAMETOOLONG)
  }
  // An abstract name ends where the address ends, so every byte of it counts.
  let length = isAbstract ? MemoryLayout<sa_family_t>.size + bytes.count : MemoryLayout<sockaddr_un>.size
  let errorNumber = withUnsafePointer(to: &address) { pointer in
    call(__CONST_SOCKADDR_ARG(__sockaddr_un__: pointer), socklen_t(length)) == 0 ? 0 : errno
  }
  if errorNumber != 0 { throw SystemError(operation(), errorNumber: errorNumber) }
}
