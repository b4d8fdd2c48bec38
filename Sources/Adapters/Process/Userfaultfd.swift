internal import Glibc

/// Getting, and judging, userfaultfds.
package enum Userfaultfd {
  /// A userfaultfd of this process.
  package struct Created {
    package let descriptor: Descriptor
    /// Only faults from user mode are reported; the kernel's own access to a missing page fails with EFAULT.
    package let isUserModeOnly: Bool
  }

  /// Makes one by /dev/userfaultfd, else by the system call, else for user mode only.
  package static func create() throws(SystemError) -> Created {
    let device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC)
    if device >= 0 {
      let file = Descriptor(owning: device)
      let raw = ioctl(file.raw, UFFD.USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK)
      if raw >= 0 { return Created(descriptor: Descriptor(owning: raw), isUserModeOnly: false) }
    }
    var errorNumber = errno
    for (flags, isUserModeOnly) in [(Int32(0), false), (UFFD.USER_MODE_ONLY, true)] {
      let raw = c_syscall(Linux.SYS_userfaultfd, Int(O_CLOEXEC | O_NONBLOCK | flags), 0, 0, 0, 0)
      if raw >= 0 { return Created(descriptor: Descriptor(owning: Int32(raw)), isUserModeOnly: isUserModeOnly) }
      errorNumber = errno
    }
    throw SystemError("userfaultfd", errorNumber: errorNumber)
  }

  /// What a person can do about a userfaultfd that is not to be had.
  package static func advice(for error: SystemError) -> String {
    switch error.errorNumber {
    case ENOSYS:
      return "this kernel has no userfaultfd (CONFIG_USERFAULTFD)"
    case EPERM, EACCES:
      let sysctl = readText("/proc/sys/vm/unprivileged_userfaultfd")?.trimmingLine ?? "unreadable"
      return "a userfaultfd is not permitted. Any one of these helps: read and write access to /dev/userfaultfd "
        + "(chmod, a udev rule or a group); the capability CAP_SYS_PTRACE; sysctl vm.unprivileged_userfaultfd=1 "
        + "(now \(sysctl)). If a container's seccomp filter denies the userfaultfd call, allow it there"
    default:
      return "\(error)"
    }
  }

  /// Does the handshake on a throw-away descriptor (it can be done only once) and names a feature that is needed and not
  /// there.
  package static func missingFeature(of probe: Descriptor) throws(SystemError) -> String? {
    let features = try handshake(probe, features: 0)
    if features & UFFD.FEATURE_EVENT_REMOVE == 0 { return "remove events (UFFD_FEATURE_EVENT_REMOVE)" }
    if features & UFFD.FEATURE_WP_HUGETLBFS_SHMEM == 0 {
      return "write protection of shared memory (UFFD_FEATURE_WP_HUGETLBFS_SHMEM)"
    }
    return features & UFFD.FEATURE_POISON == 0 ? "poisoned pages (UFFD_FEATURE_POISON)" : nil
  }

  /// - Returns: the features of the kernel.
  @discardableResult
  package static func handshake(_ descriptor: Descriptor, features: UInt64) throws(SystemError) -> UInt64 {
    let call = PrivilegedCall(.handshake, offset: features)
    let operation = "the userfaultfd's UFFDIO_API handshake"
    return UInt64(bitPattern: try Privileges.perform(call, [descriptor], operation: operation).number)
  }

  static func handshakeHere(_ descriptor: Descriptor, features: UInt64) throws(SystemError) -> UInt64 {
    var request = uffdio_api(api: UFFD.API, features: features)
    try checked("the userfaultfd's UFFDIO_API handshake") { ioctl(descriptor.raw, UFFD.UFFDIO_API, &request) }
    return request.features
  }

  /// Makes a client's userfaultfd fit to be served: does the handshake where the client has not, else checks what it
  /// asked for.
  ///
  /// - Returns: nil, or what is wrong with it, for the client.
  package static func accept(_ descriptor: Descriptor) -> String? {
    guard isOne(descriptor) else {
      return "descriptor 0 is not a userfaultfd, and the first one must be"
    }
    guard let features = enabledFeatures(of: descriptor) else {
      return "the userfaultfd's features can't be read from /proc/self/fdinfo"
    }
    guard features & UFFD.FEATURE_INITIALIZED != 0 else {
      return handshakeWithAllEvents(descriptor)
    }
    if features & UFFD.FEATURE_EVENT_REMOVE == 0 {
      return
        "the userfaultfd was set up without UFFD_FEATURE_EVENT_REMOVE: ask for it, or leave UFFDIO_API to the daemon"
    }
    if features & UFFD.FEATURE_SIGBUS != 0 {
      return "the userfaultfd was set up with UFFD_FEATURE_SIGBUS, which sends no events: leave it out"
    }
    if features & UFFD.FEATURE_WP_ASYNC != 0 {
      return "the userfaultfd was set up with UFFD_FEATURE_WP_ASYNC, which lets writes pass unseen: leave it out"
    }
    return nil
  }

  static func isOne(_ descriptor: Descriptor) -> Bool {
    linkTarget("/proc/self/fd/\(descriptor.raw)") == "anon_inode:[userfaultfd]"
  }

  /// Fork events are for the privileged (CAP_SYS_PTRACE): where they are not to be had, forks must be announced.
  private static func handshakeWithAllEvents(_ descriptor: Descriptor) -> String? {
    let events = UFFD.FEATURE_EVENT_REMOVE | UFFD.FEATURE_EVENT_REMAP | UFFD.FEATURE_EVENT_UNMAP
    do throws(SystemError) {
      do throws(SystemError) {
        try handshake(descriptor, features: events | UFFD.FEATURE_EVENT_FORK)
      } catch {
        guard error.errorNumber == EPERM else { throw error }
        try handshake(descriptor, features: events)
      }
      return nil
    } catch { return "\(error)" }
  }

  /// Whether two descriptors are one open file (F_DUPFD_QUERY of <linux/fcntl.h>, since Linux 6.10; else kcmp(2)).
  package static func isSame(_ one: Descriptor, _ other: Descriptor) -> Bool {
    let answer = fcntl(one.raw, Linux.F_DUPFD_QUERY, other.raw)
    if answer >= 0 { return answer == 1 }
    let pid = Int(getpid())
    return c_syscall(Linux.SYS_kcmp, pid, pid, 0, Int(one.raw), Int(other.raw)) == 0
  }

  /// From fdinfo's line "API: aa:enabled:known", in hexadecimal.
  private static func enabledFeatures(of descriptor: Descriptor) -> UInt64? {
    guard let text = readText("/proc/self/fdinfo/\(descriptor.raw)") else { return nil }
    for line in text.split(separator: "\n") where line.hasPrefix("API:") {
      let fields = line.split(separator: ":")
      return fields.count == 4 ? UInt64(fields[2], radix: 16) : nil
    }
    return nil
  }
}
