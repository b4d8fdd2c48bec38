internal import Glibc

/// What a worker can do no more once it has begun: it reads what clients send, and should one of them take it over, that is
/// worth little.
package enum Sandbox {
  private static let kept = Guarded<[Descriptor]>([])

  /// Gives up, for good: the right to more rights, all capabilities, all paths but a few to read, all system calls but those
  /// that it lives of. To be called before there is another thread.
  ///
  /// - Returns: for people: what this kernel can't do of it; nil where it does all.
  package static func enter() throws(SystemError) -> String? {
    try checked("giving up new privileges") { control(PR_SET_NO_NEW_PRIVS, 1) }
    try dropCapabilities()
    var lack: String?
    if let version = PathRules.version {
      var rules = try PathRules(version: version)
      // fdinfo and fd; what may be taken in all, and in our control group.
      for path in ["/proc/self", "/proc/meminfo", "/sys/fs/cgroup", "/dev/null"] { try rules.allowReading(path) }
      let places = try rules.apply()
      kept.withLock { $0 = places }
    } else {
      lack = "this kernel has no Landlock: paths are not restricted"
    }
    try SystemCallFilter.apply(SystemCallFilter.program(process: UInt32(getpid())))
    return lack
  }

  /// Of this thread, and of those that it starts.
  private static func dropCapabilities() throws(SystemError) {
    // From the bounding set too, where that is permitted; without new privileges nothing could be had from it anyway.
    for capability in 0..<capabilityLimit { _ = control(PR_CAPBSET_DROP, capability) }
    _ = control(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    // struct __user_cap_header_struct, and two of __user_cap_data_struct: effective, permitted, inheritable.
    var header: (version: UInt32, process: Int32) = (capabilityVersion, 0)
    var none: (UInt64, UInt64, UInt64) = (0, 0, 0)
    // Safety: both structures are as long as this version of the call says.
    try checked("dropping capabilities") {
      withUnsafePointer(to: &header) { header in
        withUnsafePointer(to: &none) {
          c_syscall(SystemCalls.SYS_capset, Int(bitPattern: header), Int(bitPattern: $0), 0, 0, 0)
        }
      }
    }
  }

  /// prctl(2), which wants the arguments that are not used to be 0.
  private static func control(_ option: Int, _ argument: Int) -> Int {
    c_syscall(Int(SystemCalls.prctl), option, argument, 0, 0, 0)
  }

  // From <linux/prctl.h> and <linux/capability.h>.
  private static let PR_SET_NO_NEW_PRIVS = 38
  private static let PR_CAPBSET_DROP = 24
  private static let PR_CAP_AMBIENT = 47
  private static let PR_CAP_AMBIENT_CLEAR_ALL = 4
  private static let capabilityVersion: UInt32 = 0x2008_0522
  private static let capabilityLimit = 64
}
