internal import Glibc

/// What a sandboxed worker has its attendant do: looking at other processes, signalling them, opening what has a path.
///
/// Layout of a packet, in the machine's byte order: kind (32 bits), two numbers and an offset (64 bits each), then text.
struct PrivilegedCall: Equatable {
  enum Kind: UInt32 {
    /// Of a file in /proc/`process`, named by the text: at most `limit` bytes, from `offset` on.
    case read = 1
    /// The numbers in a directory of /proc/`process` (0: of /proc itself), 32 bits each.
    case entries = 2
    /// A symbolic link's target in /proc/`process`.
    case link = 3
    /// Whose /proc/`process` is.
    case owner = 4
    /// What all tasks of a process do (`ProcessTask`); `limit` is 1 to learn also whether they are in a removal.
    case tasks = 5
    /// Signal number `limit`, to the process whose pidfd comes along.
    case signal = 6
    /// A userfaultfd with number `limit`, of the process whose pidfd comes along.
    case takeUserfaultfd = 7
    /// Whether `process` and `limit` share their memory (kcmp(2)).
    case sharesMemory = 8
    /// A stream connected to the socket at the text's path.
    case connect = 9
    /// Whose the socket file at the text's path is.
    case socketOwner = 10
    /// A new file in the swap directory; the answer's number is 1 where it is open with O_DIRECT.
    case makeSwapFile = 11
    /// Signs that the kernel may write into a process's memory (`KernelAccessSigns`); `limit` is 1 for one that is drained.
    case signs = 13
    /// UFFDIO_API with the features in `offset`, on the userfaultfd that comes along.
    case handshake = 12
  }

  var kind: Kind
  var process: Int32 = 0
  var limit = 0
  var offset: UInt64 = 0
  var text = ""

  private static let headerBytes = 24

  var bytes: [UInt8] {
    LinkPacket.bytes(of: kind.rawValue) + LinkPacket.bytes(of: process) + LinkPacket.bytes(of: Int64(limit))
      + LinkPacket.bytes(of: offset) + Array(text.utf8)
  }

  init(
    _ kind: Kind, process: Int32 = 0, limit: Int = 0, offset: UInt64 = 0, text: String = ""
  ) {
    self.kind = kind
    self.process = process
    self.limit = limit
    self.offset = offset
    self.text = text
  }

  init?(_ bytes: [UInt8]) {
    guard bytes.count >= Self.headerBytes else { return nil }
    // Safety: the header is as long as that.
    let header = bytes.withUnsafeBytes { bytes in
      (
        kind: bytes.loadUnaligned(as: UInt32.self), process: bytes.loadUnaligned(fromByteOffset: 4, as: Int32.self),
        limit: bytes.loadUnaligned(fromByteOffset: 8, as: Int64.self),
        offset: bytes.loadUnaligned(fromByteOffset: 16, as: UInt64.self)
      )
    }
    guard let kind = Kind(rawValue: header.kind) else { return nil }
    self.init(
      kind, process: header.process, limit: Int(header.limit), offset: header.offset,
      text: String(decoding: bytes[Self.headerBytes...], as: UTF8.self))
  }
}

/// The answer: an error number (0 is none) and a number (32 and 64 bits), and bytes, in the packet or in a memfd that comes
/// along.
struct PrivilegedAnswer {
  var number: Int64 = 0
  var bytes: [UInt8] = []
  var descriptor: Descriptor?

  private static let headerBytes = 16
  private static let inlineBytes = SequencedSocket.packetLimit - headerBytes

  /// - Returns: the packet, and what comes along.
  func packet() throws(SystemError) -> (bytes: [UInt8], descriptors: [Descriptor]) {
    if bytes.count > Self.inlineBytes {
      let file = try makeMemoryFile("swap-monitor-answer", containing: bytes)
      return (Self.header(errorNumber: 0, isInFile: true, number), [file])
    }
    return (Self.header(errorNumber: 0, isInFile: false, number) + bytes, [descriptor].compactMap { $0 })
  }

  static func packet(refusing errorNumber: Int32) -> [UInt8] { header(errorNumber: errorNumber, isInFile: false, 0) }

  private static func header(errorNumber: Int32, isInFile: Bool, _ number: Int64) -> [UInt8] {
    LinkPacket.bytes(of: errorNumber) + LinkPacket.bytes(of: UInt32(isInFile ? 1 : 0)) + LinkPacket.bytes(of: number)
  }

  /// - Throws: what the call failed with.
  init(_ packet: Packet, operation: @autoclosure () -> String) throws(SystemError) {
    guard packet.bytes.count >= Self.headerBytes, !packet.lostDescriptors else {
      throw SystemError(operation(), errorNumber: EPROTO)
    }
    // Safety: the header is as long as that.
    let header = packet.bytes.withUnsafeBytes { bytes in
      (
        errorNumber: bytes.loadUnaligned(as: Int32.self),
        isInFile: bytes.loadUnaligned(fromByteOffset: 4, as: UInt32.self) == 1,
        number: bytes.loadUnaligned(fromByteOffset: 8, as: Int64.self)
      )
    }
    if header.errorNumber != 0 { throw SystemError(operation(), errorNumber: header.errorNumber) }
    number = header.number
    if header.isInFile {
      guard let file = packet.descriptors.first, let bytes = contents(of: file) else {
        throw SystemError(operation(), errorNumber: EPROTO)
      }
      self.bytes = bytes
    } else {
      bytes = Array(packet.bytes.dropFirst(Self.headerBytes))
      descriptor = packet.descriptors.first
    }
  }

  init(number: Int64 = 0, bytes: [UInt8] = [], descriptor: Descriptor? = nil) {
    self.number = number
    self.bytes = bytes
    self.descriptor = descriptor
  }
}
