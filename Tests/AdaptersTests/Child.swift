import Glibc
import Testing

@testable import Adapters

@_extern(c, "fork") private func c_fork() -> Int32

/// A forked child. Its body makes system calls and little else; it is killed after two minutes, or with its owner.
final class Child {
  let pid: Int32
  let handle: ProcessHandle
  private let pipe: Descriptor
  private var isReaped = false

  /// What the child's body may use of the outside.
  struct Inside {
    /// Tells the parent a number, which `hear` returns.
    func tell(_ number: Int32) {
      var number = number
      write(Child.childPipe, &number, 4)
    }

    /// Waits for a signal to end it.
    func waitForEver() -> Never {
      while true { pause() }
    }
  }

  private static let childPipe: Int32 = 3
  private static let SYS_close_range = 436
  private static let SYS_pidfd_getfd = 438

  /// - Parameter body: its value becomes the exit code.
  init(_ body: (Inside) throws -> Int32) throws {
    var ends: [Int32] = [0, 0]
    try #require(pipe2(&ends, O_CLOEXEC) == 0)
    let forked = c_fork()
    if forked == 0 {
      // Descriptors of tests that run at the same time must not live on in here.
      if ends[1] != Self.childPipe { dup2(ends[1], Self.childPipe) }
      _ = c_syscall(Self.SYS_close_range, Int(Self.childPipe) + 1, Int(UInt32.max), 0, 0, 0)
      // The test runner's workers block signals.
      var none = sigset_t()
      sigemptyset(&none)
      pthread_sigmask(SIG_SETMASK, &none, nil)
      alarm(120)
      var limit = rlimit(rlim_cur: 0, rlim_max: 0)
      setrlimit(__rlimit_resource_t(RLIMIT_CORE.rawValue), &limit)
      for number in [SIGBUS, SIGSEGV, SIGILL, SIGTRAP] { signal(number, SIG_DFL) }
      do { _exit(try body(Inside())) } catch { _exit(99) }
    }
    close(ends[1])
    pipe = Descriptor(owning: ends[0])
    try #require(forked > 0)
    pid = forked
    handle = try ProcessHandle(pid: forked)
  }

  deinit {
    if !isReaped {
      kill(pid, SIGKILL)
      var status: Int32 = 0
      _ = waitpid(pid, &status, 0)
    }
  }

  /// The next number that the child tells; nil when none comes.
  func hear() -> Int32? {
    var poll = pollfd(fd: pipe.raw, events: Int16(POLLIN), revents: 0)
    var number: Int32 = 0
    return Glibc.poll(&poll, 1, Int32(waitLimitSeconds) * 1000) == 1 && read(pipe.raw, &number, 4) == 4 ? number : nil
  }

  /// A descriptor of the child's.
  func take(_ number: Int32) throws -> Descriptor {
    let raw = c_syscall(Self.SYS_pidfd_getfd, Int(handle.descriptor.raw), Int(number), 0, 0, 0)
    try #require(raw >= 0)
    return Descriptor(owning: Int32(raw))
  }

  enum End: Equatable {
    case exit(Int32)
    case signal(Int32)
  }

  /// Waits for the child's end, which a signal may bring about.
  func end(signal: Int32? = nil) -> End? {
    if let signal { kill(pid, signal) }
    var status: Int32 = 0
    guard eventually({ waitpid(pid, &status, WNOHANG) == pid }) else { return nil }
    isReaped = true
    return status & 0x7F == 0 ? .exit(status >> 8 & 0xFF) : .signal(status & 0x7F)
  }
}
