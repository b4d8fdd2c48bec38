internal import Glibc
internal import Synchronization

/// What a connection's request leaves behind in shared memory, so that a request that a dead worker had taken is carried
/// out once and answered once.
///
/// The kernel itself writes down that the packet was taken, and that the reply was sent: into the lengths of two
/// `mmsghdr` (recvmmsg(2), sendmmsg(2)) that lie in that memory. No death falls between the deed and the note: SIGKILL is
/// obeyed on the way out of a system call, and the memory that the kernel writes to has been touched before.
package final class RequestRecord: @unchecked Sendable {  // used by one thread at a time
  package let descriptor: Descriptor
  private let mapping: MemoryMapping

  package enum Phase: Equatable {
    case idle
    /// A request was taken from the socket; nothing has come of it.
    case taken
    case accepted(serial: UInt64)
  }

  private enum Layout {
    static let magic: UInt64 = 0x7377_6170_7265_7131  // "swapreq1"
    static let magicOffset = 0
    static let isAccepted = 8
    static let serial = 16
    static let received = 64
    static let sent = 128
    static let request = 4096
    static let bytes = request + SequencedSocket.packetLimit + 1
  }

  /// In a length: the kernel has not written it.
  private static let notYet = UInt32.max
  /// Room for a packet's credentials, and for no descriptor.
  static let controlBytes = ControlMessage.space(descriptors: 3)

  package convenience init() throws(SystemError) {
    try self.init(mapping: try makeMemoryFile("swap-monitor-request", bytes: Layout.bytes))
    word(Layout.magicOffset).pointee.store(Layout.magic, ordering: .relaxed)
    clear()
  }

  /// Takes over what another process has left.
  package convenience init(adopting descriptor: Descriptor) throws(SystemError) {
    var status = stat()
    try checked("looking at a request's record") { fstat(descriptor.raw, &status) }
    guard status.st_size == Layout.bytes else {
      throw SystemError("adopting a request's record of \(status.st_size) bytes", errorNumber: EINVAL)
    }
    try self.init(mapping: descriptor)
    guard word(Layout.magicOffset).pointee.load(ordering: .relaxed) == Layout.magic else {
      throw SystemError("adopting a request's record", errorNumber: EINVAL)
    }
    if phase == .idle { clear() }
  }

  private init(mapping descriptor: Descriptor) throws(SystemError) {
    mapping = try MemoryMapping(
      of: descriptor, bytes: Layout.bytes, writable: true, operation: "mapping a request's record")
    self.descriptor = descriptor
  }

  package var phase: Phase {
    guard requestBytes != nil, length(of: sent).pointee.load(ordering: .acquiring) == Self.notYet else { return .idle }
    guard word(Layout.isAccepted).pointee.load(ordering: .acquiring) != 0 else { return .taken }
    return .accepted(serial: word(Layout.serial).pointee.load(ordering: .relaxed))
  }

  /// The taken packet's bytes; nil where there is none.
  package var request: [UInt8]? {
    guard phase != .idle, let requestBytes else { return nil }
    // Safety: the mapping holds a whole packet behind the header.
    let start = UnsafeRawPointer(mapping.address + Layout.request)
    return Array(UnsafeRawBufferPointer(start: start, count: min(requestBytes, SequencedSocket.packetLimit)))
  }

  /// The taken packet was longer than the limit, and its end is lost.
  package var isTruncated: Bool { (requestBytes ?? 0) > SequencedSocket.packetLimit }

  package func accept(serial: UInt64) {
    word(Layout.serial).pointee.store(serial, ordering: .relaxed)
    word(Layout.isAccepted).pointee.store(1, ordering: .releasing)
  }

  /// The request has been answered. In this order: at no point does the request look new, or unanswered.
  package func clear() {
    length(of: received).pointee.store(Self.notYet, ordering: .sequentiallyConsistent)
    word(Layout.isAccepted).pointee.store(0, ordering: .sequentiallyConsistent)
    length(of: sent).pointee.store(Self.notYet, ordering: .sequentiallyConsistent)
  }

  /// Where the kernel writes down what it has received.
  var received: UnsafeMutablePointer<mmsghdr> { header(Layout.received) }
  /// Where the kernel writes down what it has sent.
  var sent: UnsafeMutablePointer<mmsghdr> { header(Layout.sent) }

  /// Clears, and makes sure that receiving so many bytes needs no memory that is not there.
  func prepare(bytes: Int) -> UnsafeMutableRawBufferPointer {
    clear()
    // Safety: the space lies behind the header, within the mapping.
    let space = UnsafeMutableRawBufferPointer(
      start: mapping.address + Layout.request, count: SequencedSocket.packetLimit + 1)
    memset(mapping.address + Layout.request, 0, min(bytes, space.count))
    return space
  }

  /// nil where nothing was taken. Neither bytes nor credentials are what a closed connection gives.
  private var requestBytes: Int? {
    let count = length(of: received).pointee.load(ordering: .acquiring)
    guard count != Self.notYet, count > 0 || received.pointee.msg_hdr.msg_controllen > 0 else { return nil }
    return Int(count)
  }

  // Safety of these: the offsets are within the mapping's first page, aligned, and each is used as one type only; a
  // `mmsghdr` is a `msghdr`, and its length behind that, 56 bytes in (<sys/socket.h>).
  private func header(_ offset: Int) -> UnsafeMutablePointer<mmsghdr> {
    (mapping.address + offset).assumingMemoryBound(to: mmsghdr.self)
  }

  private func length(of header: UnsafeMutablePointer<mmsghdr>) -> UnsafeMutablePointer<Atomic<UInt32>> {
    (UnsafeMutableRawPointer(header) + MemoryLayout<msghdr>.size).assumingMemoryBound(to: Atomic<UInt32>.self)
  }

  private func word(_ offset: Int) -> UnsafeMutablePointer<Atomic<UInt64>> {
    (mapping.address + offset).assumingMemoryBound(to: Atomic<UInt64>.self)
  }
}
