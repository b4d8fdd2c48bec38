internal import Glibc

/// Which paths a worker may open, by Landlock (landlock(7)); what has no path (memfds, sockets, what was opened before) is
/// not concerned.
struct PathRules {
  private enum Call {
    static let createRuleset = 444
    static let addRule = 445
    static let restrictSelf = 446
  }

  // From <linux/landlock.h>.
  private static let versionFlag = 1
  private static let pathBeneath = 1
  private static let readFile: UInt64 = 1 << 2
  private static let readDirectory: UInt64 = 1 << 3
  /// Rights over files that a version knows: 13 at first, then REFER, TRUNCATE, and IOCTL_DEV with version 5.
  private static func fileRights(_ version: Int) -> UInt64 {
    (1 << UInt64(version >= 5 ? 16 : version >= 3 ? 15 : version >= 2 ? 14 : 13)) - 1
  }
  /// Binding to and connecting from TCP ports.
  private static func networkRights(_ version: Int) -> UInt64 { version >= 4 ? 0b11 : 0 }
  /// Reaching abstract sockets and signalling processes outside.
  private static func scopes(_ version: Int) -> UInt64 { version >= 6 ? 0b11 : 0 }

  /// nil where the kernel has no Landlock, or it is not enabled.
  static var version: Int? {
    let version = c_syscall(Call.createRuleset, 0, 0, versionFlag, 0, 0)
    return version > 0 ? version : nil
  }

  private let rules: Descriptor
  /// Kept open: a directory of /proc that nobody uses is made anew at the next look, and a rule is for the old one.
  private var kept: [Descriptor] = []

  init(version: Int) throws(SystemError) {
    // struct landlock_ruleset_attr; a kernel takes the length that its version knows.
    var attributes = (Self.fileRights(version), Self.networkRights(version), Self.scopes(version))
    let length = version >= 6 ? 24 : version >= 4 ? 16 : 8
    // Safety: the kernel reads as many bytes as it is told, all of them in the tuple.
    rules = Descriptor(
      owning: Int32(
        try checked("making rules for paths") {
          withUnsafePointer(to: &attributes) { c_syscall(Call.createRuleset, Int(bitPattern: $0), length, 0, 0, 0) }
        }))
  }

  /// Allows reading a file, or all that is below a directory. What is not there is left out.
  mutating func allowReading(_ path: String) throws(SystemError) {
    guard let place = attempt({ try Descriptor(opening: path, O_PATH) }) else { return }
    var status = stat()
    try checked("looking at \(path)") { fstat(place.raw, &status) }
    let rights = status.st_mode & S_IFMT == S_IFDIR ? Self.readFile | Self.readDirectory : Self.readFile
    // struct landlock_path_beneath_attr is packed: 64 bits of rights, 32 of the descriptor.
    var rule = rights.bytes + place.raw.bytes
    // Safety: the kernel reads the twelve bytes that are there.
    try checked("allowing \(path)") {
      rule.withUnsafeMutableBytes {
        c_syscall(
          Call.addRule, Int(rules.raw), Self.pathBeneath, Int(bitPattern: $0.baseAddress), 0, 0)
      }
    }
    kept.append(place)
  }

  /// For this thread, and those that it starts, for good. Needs no_new_privs.
  ///
  /// - Returns: what has to stay open.
  consuming func apply() throws(SystemError) -> [Descriptor] {
    try checked("restricting paths") { c_syscall(Call.restrictSelf, Int(rules.raw), 0, 0, 0, 0) }
    return kept
  }
}
