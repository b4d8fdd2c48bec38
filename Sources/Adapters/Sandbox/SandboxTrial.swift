internal import Glibc

/// Tries what a sandbox forbids, and what it must leave.
package struct SandboxTrial: Sendable {
  package let name: String
  package let isForbidden: Bool
  /// nil: it was possible.
  package let errorNumber: Int32?

  package var isAsItShouldBe: Bool { isForbidden == (errorNumber != nil) }

  /// All of them, in this process, which is to be in a sandbox.
  package static func all() -> [SandboxTrial] {
    forbidden.map { trial($0, isForbidden: true, $1) } + needed.map { trial($0, isForbidden: false, $1) }
  }

  private static func trial(_ name: String, isForbidden: Bool, _ attempt: () -> Int) -> SandboxTrial {
    errno = 0
    let result = attempt()
    return SandboxTrial(name: name, isForbidden: isForbidden, errorNumber: result == -1 ? errno : nil)
  }

  /// The number of capabilities that this process has, or could get.
  package static var capabilities: Int {
    let status = readText("/proc/self/status") ?? ""
    return status.split(separator: "\n").reduce(0) { sum, line in
      guard line.hasPrefix("CapEff:") || line.hasPrefix("CapPrm:") || line.hasPrefix("CapInh:") else { return sum }
      return sum + (UInt64(line.dropFirst(8), radix: 16)?.nonzeroBitCount ?? 64)
    }
  }

  // Safety: none of the calls is given memory that is not its own; those that would make a process end it at once.
  private static var forbidden: [(String, () -> Int)] {
    [
      ("reading a file (/etc/passwd)", { opening("/etc/passwd", O_RDONLY) }),
      ("reading another process (/proc/1/status)", { opening("/proc/1/status", O_RDONLY) }),
      ("making a file (/tmp)", { opening("/tmp", O_TMPFILE | O_RDWR) }),
      ("removing a file", { Int(unlink("/tmp/swap-monitor-that-does-not-exist/file")) }),
      ("making a socket", { Int(socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)) }),
      ("making an internet socket", { Int(socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)) }),
      (
        "making a process",
        {
          let result = c_syscall(Linux.SYS_clone, Int(SIGCHLD), 0, 0, 0, 0)
          if result == 0 { _exit(0) }
          return result
        }
      ),
      (
        "running a program",
        {
          var words: [UnsafeMutablePointer<CChar>?] = [nil]
          return Int(execv("/proc/self/exe", &words))
        }
      ),
      (
        "memory that can be executed",
        {
          let flags = MAP_PRIVATE | Int32(MAP_ANONYMOUS)
          return mmap(nil, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, flags, -1, 0) == MAP_FAILED ? -1 : 0
        }
      ),
      ("signalling a process", { Int(kill(getppid(), 0)) }),
      ("tracing", { c_ptrace(Ptrace.SEIZE, getppid(), 0, 0) }),
      ("an ioctl of no use to it (TIOCGWINSZ)", { Int(ioctl(STDIN_FILENO, UInt(TIOCGWINSZ), 0)) }),
      ("a userfaultfd", { c_syscall(Linux.SYS_userfaultfd, Int(UFFD.USER_MODE_ONLY), 0, 0, 0, 0) }),
      ("taking a descriptor of another process", { c_syscall(Linux.SYS_pidfd_getfd, 0, 0, 0, 0, 0) }),
      ("becoming another user", { Int(setuid(65534)) }),
    ]
  }

  private static var needed: [(String, () -> Int)] {
    [
      ("its own descriptors (/proc/self/fdinfo)", { opening("/proc/self/fdinfo/0", O_RDONLY) }),
      ("the machine's memory (/proc/meminfo)", { opening("/proc/meminfo", O_RDONLY) }),
      (
        "shared memory, mapped",
        {
          let file = memfd_create("trial", UInt32(MFD_CLOEXEC))
          guard file >= 0, ftruncate(file, 4096) == 0 else { return -1 }
          defer { close(file) }
          return mmap(nil, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0) == MAP_FAILED ? -1 : 0
        }
      ),
      (
        "another thread",
        { attempt { try Thread(name: "trial") {}.join() } == nil ? -1 : 0 }
      ),
    ]
  }

  private static func opening(_ path: String, _ flags: Int32) -> Int {
    let raw = open(path, flags | O_CLOEXEC, 0o600)
    if raw >= 0 { close(raw) }
    return Int(raw)
  }
}
