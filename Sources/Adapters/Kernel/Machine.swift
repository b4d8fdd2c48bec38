package import Domain
internal import Glibc

/// What this machine says of itself.
package enum Machine {
  /// The base page size from sysconf, and the huge page size from sysfs, 2 MiB where that is unreadable.
  package static func pageGeometry() -> PageGeometry? {
    let huge = readText("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size").flatMap { Int($0.trimmingLine) }
    return PageGeometry(pageBytes: sysconf(Int32(_SC_PAGESIZE)), hugePageBytes: huge ?? 2 << 20)
  }

  /// RLIMIT_MEMLOCK in bytes, raised as far as that goes: to the hard limit, or, with the right to it, to any height, which
  /// stands when that right is given up. nil for no limit.
  package static func memoryLockLimitBytes() -> UInt64? {
    var limit = rlimit(rlim_cur: .max, rlim_max: .max)
    if setrlimit(__RLIMIT_MEMLOCK, &limit) == 0 { return nil }
    guard getrlimit(__RLIMIT_MEMLOCK, &limit) == 0 else { return 0 }
    limit.rlim_cur = limit.rlim_max
    setrlimit(__RLIMIT_MEMLOCK, &limit)
    return limit.rlim_cur == .max ? nil : UInt64(limit.rlim_cur)
  }

  /// A tenant takes a dozen descriptors; the usual soft limit would do for eighty of them.
  package static func raiseDescriptorLimit() {
    var limit = rlimit()
    guard getrlimit(RLIMIT_NOFILE, &limit) == 0 else { return }
    limit.rlim_cur = limit.rlim_max
    setrlimit(RLIMIT_NOFILE, &limit)
  }

  /// What ps(1) and pgrep(1) call this process; for a program that was executed as /proc/self/exe. Of the main thread.
  package static func nameProcess(_ name: String) { pthread_setname_np(pthread_self(), name) }

  /// Asks for the processor before others, for a process that holds somebody up; in vain where that is not permitted.
  package static func hurry() { setpriority(__priority_which_t(UInt32(PRIO_PROCESS.rawValue)), 0, -20) }

  /// A line of /proc/meminfo, in bytes (it says kB, and means KiB).
  package static func memory(_ name: String, in path: String = "/proc/meminfo") -> Int? {
    let line = readText(path)?.split(separator: "\n").first { $0.hasPrefix(name) }
    return line.flatMap { Int($0.dropFirst(name.count).filter(\.isNumber)) }.map { $0 << 10 }
  }

  package static var effectiveUser: UInt32 { geteuid() }
  package static var processIdentifier: Int32 { getpid() }

  /// nil where the variable is not set, or empty.
  package static func environment(_ name: String) -> String? {
    guard let text = getenv(name).map({ String(cString: $0) }), !text.isEmpty else { return nil }
    return text
  }

  package static var currentDirectory: String { linkTarget("/proc/self/cwd") ?? "/" }

  /// Words from the kernel's random source.
  package static func randomWords(_ count: Int) -> [UInt64] {
    var source = SystemRandomNumberGenerator()  // getrandom(2) on Linux
    return (0..<count).map { _ in source.next() }
  }
}
