/// Names a held descriptor. The keeper does not know what it means, except that group 0 is the daemon's own: where
/// nothing else is held, a first worker that can't start ends the daemon.
package struct HeldKey: Hashable, Sendable {
  package let group: UInt64
  package let role: UInt32
  package let index: UInt32

  package init(group: UInt64, role: UInt32, index: UInt32 = 0) {
    self.group = group
    self.role = role
    self.index = index
  }

  /// A listening socket that a service manager has made for us.
  package static let activatedSocket = HeldKey(group: 0, role: 1)

  /// A worker whose keeper has died; its attendant becomes the keeper, and ends it.
  static let formerWorker = HeldKey(group: 0, role: .max)

  /// The first of those that are dead but for a thread that the kernel holds.
  static let lingeringWorker: UInt32 = .max - 1

  static let byteCount = 16
  var bytes: [UInt8] { group.bytes + role.bytes + index.bytes }

  init(in bytes: [UInt8], at offset: Int) {
    self.init(
      group: bytes.number(at: offset), role: bytes.number(at: offset + 8), index: bytes.number(at: offset + 12))
  }

  /// Its name in a service manager's store of descriptors.
  var name: String {
    "sm." + [group, UInt64(role), UInt64(index)].map { String($0, radix: 16) }.joined(separator: ".")
  }

  init?(name: some StringProtocol) {
    let parts = name.split(separator: ".", omittingEmptySubsequences: false)
    guard parts.count == 4, parts[0] == "sm", let group = UInt64(parts[1], radix: 16),
      let role = UInt32(parts[2], radix: 16), let index = UInt32(parts[3], radix: 16)
    else { return nil }
    self.init(group: group, role: role, index: index)
  }
}

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

  init(_ kind: Kind, keys: [HeldKey] = [], text: [UInt8] = []) {
    self.kind = kind
    self.keys = keys
    self.text = text
  }

  /// Descriptors with their keys, as many in a packet as it takes.
  static func batches(_ kind: Kind, _ entries: [(key: HeldKey, descriptor: Descriptor)]) -> [(
    packet: LinkPacket, descriptors: [Descriptor]
  )] {
    stride(from: 0, to: entries.count, by: keyLimit).map { start in
      let batch = entries[start..<min(start + keyLimit, entries.count)]
      return (LinkPacket(kind, keys: batch.map(\.key)), batch.map(\.descriptor))
    }
  }

  /// - Returns: nil for bytes that mean nothing.
  init?(_ bytes: [UInt8]) {
    guard bytes.count >= Self.headerBytes, let kind = Kind(rawValue: bytes.number(at: 0)) else { return nil }
    let count = Int(bytes.number(UInt32.self, at: 4))
    let textStart = Self.headerBytes + count * HeldKey.byteCount
    guard count <= Self.keyLimit, textStart <= bytes.count else { return nil }
    let keys = (0..<count).map { HeldKey(in: bytes, at: Self.headerBytes + $0 * HeldKey.byteCount) }
    self.init(kind, keys: keys, text: Array(bytes[textStart...]))
  }

  /// The text, for people.
  var words: String { String(decoding: text, as: UTF8.self) }

  var bytes: [UInt8] { kind.rawValue.bytes + UInt32(keys.count).bytes + keys.flatMap(\.bytes) + text }
}
