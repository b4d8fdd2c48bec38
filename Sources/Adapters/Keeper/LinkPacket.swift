/// What keeper and worker say to each other, one packet each. Part of `Keeper.layoutVersion`.
///
/// Layout, in the machine's byte order: the kind and the number of keys (32 bits each); per key its group (64 bits), role
/// and index (32 bits each); then text to the packet's end. Descriptors that come along are in the keys' order.
struct LinkPacket: Equatable {
  enum Kind: UInt32, CaseIterable {
    // From the worker.
    case hold = 1
    case drop = 2
    case dropGroup = 3
    case ready = 4
    case upgrade = 5
    /// Lets the next one in who knocks at the listening socket, and holds the connection under the key.
    case accept = 6
    /// Starts an assistant; the answer brings the worker's end of a link to it.
    case assist = 7
    /// The control thread goes on; the text says how things are, for the service manager.
    case alive = 8
    // From the worker to its attendant, besides `hold`.
    /// Serves calls at the descriptor that comes along.
    case lane = 9
    /// Becomes the keeper that the text describes, of what was held.
    case succeed = 10
    // From the keeper.
    case inventory = 16
    case inventoryEnd = 17
    case done = 18
    case refused = 19
  }

  /// Of a packet. The kernel takes 253 descriptors.
  static let keyLimit = 200

  var kind: Kind
  var keys: [HeldKey] = []
  var text: [UInt8] = []

  private static let headerBytes = 8
  private static let keyBytes = 16

  init(_ kind: Kind, keys: [HeldKey] = [], text: [UInt8] = []) {
    self.kind = kind
    self.keys = keys
    self.text = text
  }

  /// - Returns: nil for bytes that mean nothing.
  init?(_ bytes: [UInt8]) {
    guard bytes.count >= Self.headerBytes else { return nil }
    // Safety: every load lies within the bytes, whose number has been compared with what is announced.
    let parsed: (kind: Kind, keys: [HeldKey])? = bytes.withUnsafeBytes { bytes in
      let count = Int(bytes.loadUnaligned(fromByteOffset: 4, as: UInt32.self))
      guard let kind = Kind(rawValue: bytes.loadUnaligned(as: UInt32.self)), count <= Self.keyLimit,
        bytes.count >= Self.headerBytes + count * Self.keyBytes
      else { return nil }
      let keys = (0..<count).map { Self.key(in: bytes, at: Self.headerBytes + $0 * Self.keyBytes) }
      return (kind, keys)
    }
    guard let parsed else { return nil }
    self.init(parsed.kind, keys: parsed.keys)
    text = Array(bytes[(Self.headerBytes + keys.count * Self.keyBytes)...])
  }

  var bytes: [UInt8] {
    var bytes = Self.bytes(of: kind.rawValue) + Self.bytes(of: UInt32(keys.count))
    for key in keys { bytes += Self.bytes(of: key) }
    return bytes + text
  }

  static func bytes(of key: HeldKey) -> [UInt8] { bytes(of: key.group) + bytes(of: key.role) + bytes(of: key.index) }

  static func key(in bytes: UnsafeRawBufferPointer, at offset: Int) -> HeldKey {
    HeldKey(
      group: bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self),
      role: bytes.loadUnaligned(fromByteOffset: offset + 8, as: UInt32.self),
      index: bytes.loadUnaligned(fromByteOffset: offset + 12, as: UInt32.self))
  }

  // Safety: an integer's bytes are all there is to it.
  static func bytes(of number: some FixedWidthInteger) -> [UInt8] { withUnsafeBytes(of: number) { Array($0) } }
}
