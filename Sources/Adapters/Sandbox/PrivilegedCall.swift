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
    kind.rawValue.bytes + process.bytes + Int64(limit).bytes + offset.bytes + Array(text.utf8)
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
    guard bytes.count >= Self.headerBytes, let kind = Kind(rawValue: bytes.number(at: 0)) else { return nil }
    self.init(
      kind, process: bytes.number(at: 4), limit: bytes.number(at: 8), offset: bytes.number(at: 16),
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
    errorNumber.bytes + UInt32(isInFile ? 1 : 0).bytes + number.bytes
  }

  /// - Throws: what the call failed with.
  init(_ packet: Packet, operation: @autoclosure () -> String) throws(SystemError) {
    guard packet.bytes.count >= Self.headerBytes, !packet.lostDescriptors else {
      throw SystemError(operation(), errorNumber: EPROTO)
    }
    let errorNumber: Int32 = packet.bytes.number(at: 0)
    if errorNumber != 0 { throw SystemError(operation(), errorNumber: errorNumber) }
    number = packet.bytes.number(at: 8)
    if packet.bytes.number(UInt32.self, at: 4) == 1 {
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
