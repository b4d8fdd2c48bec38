internal import Glibc

/// Signs that the kernel or a device may have a process's pages pinned, to write into them behind every mapping's back.
enum KernelAccessSigns {
  /// - Returns: the first sign, for people; nil where none is seen, or where we may not look.
  static func find(pid: Int32) -> String? {
    pinnedMemory(pid) ?? asynchronousIO(pid) ?? descriptor(pid)
  }

  /// VFIO and the like count what they have pinned (proc(5), VmPin).
  private static func pinnedMemory(_ pid: Int32) -> String? {
    guard let text = readText("/proc/\(pid)/status") else { return nil }
    for line in text.split(separator: "\n") where line.hasPrefix("VmPin:") {
      let amount = String(line.dropFirst(6)).filter(\.isNumber)
      return amount == "0" ? nil : "\(amount) kB of its memory are pinned (VmPin)"
    }
    return nil
  }

  private static func asynchronousIO(_ pid: Int32) -> String? {
    guard let maps = readText("/proc/\(pid)/maps", limit: 64 << 20) else { return nil }
    return maps.contains("/[aio]") ? "it has an asynchronous I/O context (io_setup)" : nil
  }

  private static func descriptor(_ pid: Int32) -> String? {
    guard let directory = opendir("/proc/\(pid)/fd") else { return nil }
    defer { closedir(directory) }
    while let entry = readdir(directory) {
      // Safety: d_name is a C string inside the entry, which lives until the next readdir.
      let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
      guard Int(name) != nil else { continue }
      let target = linkTarget("/proc/\(pid)/fd/\(name)") ?? ""
      if target == "anon_inode:[io_uring]" { return "descriptor \(name) is an io_uring" }
      if target.hasPrefix("/dev/vfio") || target.hasPrefix("/dev/vhost") { return "descriptor \(name) is \(target)" }
      if isDirect("/proc/\(pid)/fdinfo/\(name)") { return "descriptor \(name), \(target), is open with O_DIRECT" }
    }
    return nil
  }

  /// fdinfo's line "flags:", in octal.
  private static func isDirect(_ path: String) -> Bool {
    guard let text = readText(path, limit: 4096) else { return false }
    for line in text.split(separator: "\n") where line.hasPrefix("flags:") {
      guard let flags = Int32(line.dropFirst(6).filter(\.isNumber), radix: 8) else { return false }
      return flags & O_DIRECT != 0
    }
    return false
  }
}

/// Where a symbolic link points.
func linkTarget(_ path: String) -> String? {
  var buffer = [CChar](repeating: 0, count: 4096)
  let count = readlink(path, &buffer, buffer.count)
  return count > 0 ? String(decoding: buffer[0..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self) : nil
}
