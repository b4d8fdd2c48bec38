internal import Glibc

/// Signs that the kernel or a device may have a process's pages pinned, to write into them behind every mapping's back.
enum KernelAccessSigns {
  /// - Parameter drained: what the process itself has in flight is awaited before its memory is moved (a QEMU that is stopped
  ///   by its monitor does that); then only what devices do counts.
  /// - Returns: the first sign, for people; nil where none is seen, or where we may not look.
  static func find(pid: Int32, drained: Bool = false) -> String? {
    do throws(SystemError) {
      let call = PrivilegedCall(.signs, process: pid, limit: drained ? 1 : 0)
      let sign = try Privileges.perform(call, operation: "looking at process \(pid)").bytes
      return sign.isEmpty ? nil : String(decoding: sign, as: UTF8.self)
    } catch { return "it can't be looked at: \(error)" }
  }

  static func findHere(pid: Int32, drained: Bool) -> String? {
    if drained { return pinnedMemory(pid) ?? descriptor(pid) { $0.hasPrefix("/dev/vfio") } }
    return pinnedMemory(pid) ?? asynchronousIO(pid)
      ?? descriptor(pid) {
        $0 == "anon_inode:[io_uring]" || $0.hasPrefix("/dev/vfio") || $0.hasPrefix("/dev/vhost")
      } ?? directDescriptor(pid)
  }

  /// VFIO and the like count what they have pinned.
  private static func pinnedMemory(_ pid: Int32) -> String? {
    guard let amount = ProcessStatus(pid: pid)["VmPin"]?.filter(\.isNumber), amount != "0" else { return nil }
    return "\(amount) kB of its memory are pinned (VmPin)"
  }

  private static func asynchronousIO(_ pid: Int32) -> String? {
    guard let maps = ProcessFiles(pid: pid).text("maps", limit: ProcessMaps.limit) else { return nil }
    return maps.contains("/[aio]") ? "it has an asynchronous I/O context (io_setup)" : nil
  }

  private static func descriptor(_ pid: Int32, where isSign: (String) -> Bool) -> String? {
    let files = ProcessFiles(pid: pid)
    for number in files.descriptors() {
      if let target = files.link("fd/\(number)"), isSign(target) {
        return "descriptor \(number) is \(target == "anon_inode:[io_uring]" ? "an io_uring" : target)"
      }
    }
    return nil
  }

  private static func directDescriptor(_ pid: Int32) -> String? {
    let files = ProcessFiles(pid: pid)
    for number in files.descriptors() where isDirect(files.text("fdinfo/\(number)", limit: 4096)) {
      let target = files.link("fd/\(number)") ?? ""
      return "descriptor \(number), \(target), is open with O_DIRECT"
    }
    return nil
  }

  /// fdinfo's line "flags:", in octal.
  private static func isDirect(_ text: String?) -> Bool {
    for line in (text ?? "").split(separator: "\n") where line.hasPrefix("flags:") {
      guard let flags = Int32(line.dropFirst(6).filter(\.isNumber), radix: 8) else { return false }
      return flags & O_DIRECT != 0
    }
    return false
  }
}
