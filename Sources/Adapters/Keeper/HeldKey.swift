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
