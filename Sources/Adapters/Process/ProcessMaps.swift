package import Domain

/// What a process maps where, from /proc/PID/maps.
package struct ProcessMaps {
  package struct Mapping: Equatable {
    package let addresses: Range<UInt64>
    package let isShared: Bool
    /// Not PROT_NONE.
    package let isAccessible: Bool
    package let offset: UInt64
    package let device: UInt64
    package let inode: UInt64
    /// The file's, or a name in brackets; empty where there is none.
    package var path = ""
    var isExecutable = false
    var isWritable = false
  }

  package let mappings: [Mapping]

  /// - Returns: nil where we may not look, or the process is gone.
  package init?(pid: Int32) {
    do throws(SystemError) {
      let bytes = try ProcessFiles(pid: pid).bytes("maps", limit: Self.limit)
      guard !bytes.isEmpty else { return nil }
      self.init(bytes)
    } catch { return nil }
  }

  init(_ bytes: [UInt8]) {
    mappings = String(decoding: bytes, as: UTF8.self).split(separator: "\n").compactMap { Self.parse($0) }
  }

  /// Of the text; a process has at most 65,530 mappings, unless vm.max_map_count is changed.
  static let limit = 64 << 20

  /// Whether `bytes` bytes at `address` are shared mappings of a file, from `offset` on, without a gap.
  package func map(_ file: FileIdentity, offset: UInt64, at address: UInt64, bytes: UInt64) -> Bool {
    var position = address
    for mapping in mappings where mapping.addresses.contains(position) {
      guard mapping.isShared, mapping.inode == file.inode, mapping.device == file.device,
        mapping.offset + (position - mapping.addresses.lowerBound) == offset + (position - address)
      else { return false }
      position = mapping.addresses.upperBound
      if position >= address + bytes { return true }
    }
    return false
  }

  /// Where in a range of addresses the file is not mapped, shared, as it should be: from `offset` on at the first one.
  func gaps(of file: FileIdentity, offset: UInt64, at address: UInt64, bytes: UInt64) -> [Range<UInt64>] {
    var gaps: [Range<UInt64>] = []
    var position = address
    for mapping in mappings where mapping.addresses.overlaps(address..<(address + bytes)) {
      let start = max(mapping.addresses.lowerBound, address)
      guard mapping.isShared, mapping.inode == file.inode, mapping.device == file.device,
        mapping.offset + (start - mapping.addresses.lowerBound) == offset + (start - address)
      else { continue }
      if position < start { gaps.append(position..<start) }
      position = mapping.addresses.upperBound
    }
    if position < address + bytes { gaps.append(position..<(address + bytes)) }
    return gaps
  }

  /// "start-end perms offset major:minor inode path", numbers in hexadecimal but the inode (proc(5)).
  static func parse(_ line: Substring) -> Mapping? {
    let fields = line.split(separator: " ", maxSplits: 5, omittingEmptySubsequences: true)
    guard fields.count >= 5 else { return nil }
    let range = fields[0].split(separator: "-")
    let device = fields[3].split(separator: ":")
    guard range.count == 2, device.count == 2, let start = UInt64(range[0], radix: 16),
      let end = UInt64(range[1], radix: 16), start < end, let offset = UInt64(fields[2], radix: 16),
      let major = UInt64(device[0], radix: 16), let minor = UInt64(device[1], radix: 16), let inode = UInt64(fields[4])
    else { return nil }
    return Mapping(
      addresses: start..<end, isShared: fields[1].contains("s"),
      isAccessible: fields[1].prefix(3).contains { $0 != "-" }, offset: offset,
      device: DeviceNumber.make(major: major, minor: minor), inode: inode,
      path: fields.count > 5 ? String(fields[5].drop { $0 == " " }) : "", isExecutable: fields[1].contains("x"),
      isWritable: fields[1].contains("w"))
  }
}

/// Linux's 64-bit dev_t (gnu_dev_makedev in <sys/sysmacros.h>).
enum DeviceNumber {
  static func make(major: UInt64, minor: UInt64) -> UInt64 {
    (major & 0xFFFF_F000) << 32 | (major & 0xFFF) << 8 | (minor & 0xFFFF_FF00) << 12 | minor & 0xFF
  }

  /// "major:minor" as /proc/PID/maps has it.
  static func text(_ device: UInt64) -> String {
    let major = device >> 8 & 0xFFF | device >> 32 & 0xFFFF_F000
    let minor = device & 0xFF | device >> 12 & 0xFFFF_FF00
    func hexadecimal(_ number: UInt64) -> String {
      let text = String(number, radix: 16)
      return text.count < 2 ? "0" + text : text
    }
    return "\(hexadecimal(major)):\(hexadecimal(minor))"
  }
}
