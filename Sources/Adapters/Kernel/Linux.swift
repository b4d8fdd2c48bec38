internal import Glibc

/// A system call that failed.
package struct SystemError: Error, Equatable, Sendable, CustomStringConvertible {
  /// What was being done, for people: "opening /dev/userfaultfd".
  package let operation: String
  package let errorNumber: Int32

  package init(_ operation: String, errorNumber: Int32) {
    self.operation = operation
    self.errorNumber = errorNumber
  }

  package var description: String { "\(operation): \(errorText(errorNumber))" }
}

/// The kernel's words for an error number.
package func errorText(_ errorNumber: Int32) -> String {
  var buffer = [CChar](repeating: 0, count: 128)
  // Safety: the GNU strerror_r returns a C string that lives in the buffer or for ever.
  return buffer.withUnsafeMutableBufferPointer { space in
    guard let start = space.baseAddress, let text = strerror_r(errorNumber, start, space.count) else {
      return "error \(errorNumber)"
    }
    return String(cString: text)
  }
}

/// Numbers that libc's module does not carry, with the C names, from the kernel's uapi headers.
enum Linux {
  static let EPOLLIN: UInt32 = 0x001
  static let EPOLLOUT: UInt32 = 0x004
  static let EPOLLERR: UInt32 = 0x008
  static let EPOLLHUP: UInt32 = 0x010
  static let EPOLL_CTL_ADD: Int32 = 1
  static let EPOLL_CTL_DEL: Int32 = 2
  static let EPOLL_CTL_MOD: Int32 = 3
  static let EFD_CLOEXEC: Int32 = 0o2000000
  static let EFD_NONBLOCK: Int32 = 0o4000
  static let SFD_CLOEXEC: Int32 = 0o2000000
  static let SFD_NONBLOCK: Int32 = 0o4000
  static let SO_PEERPIDFD: Int32 = 77
  static let RWF_NOWAIT: Int32 = 0x8
  static let PR_SET_PDEATHSIG: Int32 = 1
  static let PR_SET_NAME: Int32 = 15
  static let F_DUPFD_QUERY: Int32 = 1027
  static let CLONE_FILES = 0x400
  static let CLONE_PIDFD = 0x1000
  static let AT_EMPTY_PATH = 0x1000
  static let STATX_DIOALIGN = 0x2000
  static let __WALL: Int32 = 0x4000_0000

  #if arch(x86_64)
    static let SYS_userfaultfd = 323
    static let SYS_madvise = 28
    static let SYS_kcmp = 312
    static let SYS_clone = 56
    static let SYS_ppoll = 271
    static let SYS_exit_group = 231
    static let SYS_statx = 332
    static let SYS_sched_setattr = 314
    static let SYS_sched_setaffinity = 203
    static let SYS_sched_getaffinity = 204
    static let SYS_close = 3
    static let SYS_mmap = 9
    static let SYS_munmap = 11
    static let SYS_ioctl = 16
    static let SYS_recvmsg = 47
    static let SYS_socketpair = 53
  #elseif arch(arm64)
    static let SYS_userfaultfd = 282
    static let SYS_madvise = 233
    static let SYS_kcmp = 272
    static let SYS_clone = 220
    static let SYS_ppoll = 73
    static let SYS_exit_group = 94
    static let SYS_statx = 291
    static let SYS_sched_setattr = 274
    static let SYS_sched_setaffinity = 122
    static let SYS_sched_getaffinity = 123
    static let SYS_close = 57
    static let SYS_mmap = 222
    static let SYS_munmap = 215
    static let SYS_ioctl = 29
    static let SYS_recvmsg = 212
    static let SYS_socketpair = 199
  #endif
  static let SYS_pidfd_send_signal = 424
  static let SYS_pidfd_open = 434
  static let SYS_pidfd_getfd = 438
  static let SYS_process_madvise = 440
  static let SYS_cachestat = 451
}

/// Calls again while the answer is EINTR: none of our calls gives up for a signal.
///
/// - Returns: the call's result, or the error number.
@inline(__always)
func retryingInterrupts<Result: FixedWidthInteger>(_ call: () -> Result) -> (result: Result, errorNumber: Int32) {
  while true {
    let result = call()
    if result != -1 { return (result, 0) }
    if errno != EINTR { return (result, errno) }
  }
}

/// The same, throwing.
@discardableResult
func checked<Result: FixedWidthInteger>(_ operation: @autoclosure () -> String, _ call: () -> Result)
  throws(SystemError) -> Result
{
  let (result, errorNumber) = retryingInterrupts(call)
  if result == -1 { throw SystemError(operation(), errorNumber: errorNumber) }
  return result
}

/// nil where it fails: for what can be done without, or is tried again.
@discardableResult
package func attempt<Value>(_ body: () throws -> Value) -> Value? { do { return try body() } catch { return nil } }

/// An open file descriptor; closed when its last user lets it go.
package final class Descriptor: Sendable {
  package let raw: Int32
  private let isForeign: Bool

  /// Takes the descriptor over.
  ///
  /// - Parameter isForeign: a client sent it, so it may be anything, also something whose closing takes its time.
  package init(owning raw: Int32, isForeign: Bool = false) {
    self.raw = raw
    self.isForeign = isForeign
  }

  /// Opens a file.
  convenience init(opening path: String, _ flags: Int32, mode: UInt32 = 0, operation: String? = nil)
    throws(SystemError)
  {
    self.init(owning: try checked(operation ?? "opening \(path)") { open(path, flags | O_CLOEXEC, mode) })
  }

  /// Whether it ends, as descriptors of ours do, when this process executes another program.
  func setClosesOnExecute(_ closes: Bool) { _ = fcntl(raw, F_SETFD, closes ? FD_CLOEXEC : 0) }

  /// Takes over what this process was started with; nil where nothing is open there.
  package convenience init?(inherited raw: Int32) {
    guard fcntl(raw, F_GETFD) >= 0 else { return nil }
    self.init(owning: raw)
  }

  deinit {
    if isForeign { ForeignDescriptor.close(raw) } else { close(raw) }
  }
}
