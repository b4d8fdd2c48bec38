internal import Glibc

/// A swap file of the kernel's own, for comparison; used before all others while it is there.
package final class KernelSwap {
  private let path: String

  /// - Throws: EPERM without CAP_SYS_ADMIN.
  package init(in directory: String, bytes: Int) throws(SystemError) {
    let path = "\(directory)/.swap-monitor-bench-\(getpid())"
    let file = Descriptor(
      owning: try checked("making \(path)") { open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600) })
    do throws(SystemError) {
      try checked("sizing \(path)") { fallocate(file.raw, 0, 0, bytes) }
      try Self.writeHeader(file, bytes: bytes)
      try checked("swapon(\(path))") { Self.call(Self.SYS_swapon, path, Self.SWAP_FLAG_PREFER | 0x7fff) }
    } catch {
      unlink(path)
      throw error
    }
    self.path = path
  }

  /// Brings back what is in it, which takes its time.
  deinit {
    _ = Self.call(Self.SYS_swapoff, path, 0)
    unlink(path)
  }

  /// What mkswap(8) writes: union swap_header of include/linux/swap.h.
  private static func writeHeader(_ file: Descriptor, bytes: Int) throws(SystemError) {
    let pageBytes = sysconf(Int32(_SC_PAGESIZE))
    var page = [UInt8](repeating: 0, count: pageBytes)
    let (version, lastPage) = (UInt32(1), UInt32(bytes / pageBytes - 1))
    page.replaceSubrange(1024..<1032, with: [version, lastPage].withUnsafeBytes { Array($0) })
    page.replaceSubrange(pageBytes - 10..<pageBytes, with: Array("SWAPSPACE2".utf8))
    try checked("writing the swap file's header") { pwrite(file.raw, page, page.count, 0) }
    try checked("fdatasync") { fdatasync(file.raw) }
  }

  private static func call(_ number: Int, _ path: String, _ flags: Int) -> Int {
    path.withCString { c_syscall(number, Int(bitPattern: $0), flags, 0, 0, 0) }
  }

  private static let SWAP_FLAG_PREFER = 0x8000
  #if arch(x86_64)
    private static let SYS_swapon = 167
    private static let SYS_swapoff = 168
  #elseif arch(arm64)
    private static let SYS_swapon = 224
    private static let SYS_swapoff = 225
  #endif
}
