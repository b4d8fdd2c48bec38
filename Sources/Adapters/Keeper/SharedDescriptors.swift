internal import Glibc

/// A worker's descriptors, shared with a tiny process that outlives the worker.
///
/// The kernel puts a forked child's userfaultfd into the descriptor table of whoever reads the fork's event. With a table of
/// its own, a worker that dies before the keeper has the descriptor takes it along, and the child reads zeros.
package struct SharedDescriptors {
  /// The process that shares them, to be held by the keeper. Whoever follows the worker takes what it needs, and ends it.
  package let process: ProcessHandle
  /// Whose deaths that one waits for: open in the shared table for as long as this worker has them.
  private let watched: [ProcessHandle]

  static let processName = "swap-monitor-fd"

  /// So long after the worker's death it waits for another one. (One that nobody knows of must end by itself.)
  private static let patienceSeconds = 60

  /// Those of an earlier worker.
  package init(leftWith process: ProcessHandle) {
    self.process = process
    watched = []
  }

  /// Shares this process's descriptors.
  ///
  /// - Parameters:
  ///   - keeper: where that has died too,
  ///   - attendant: and that, which would become the keeper: nobody can follow this worker.
  package init(keeper: Int32, attendant: ProcessHandle) throws(SystemError) {
    let watched = [try ProcessHandle(pid: getpid()), try ProcessHandle(pid: keeper), attendant]
    if getppid() != keeper { throw SystemError("staying with the keeper", errorNumber: ESRCH) }
    var polls = watched.map { pollfd(fd: $0.descriptor.raw, events: Int16(POLLIN), revents: 0) }
    var patience = timespec(tv_sec: Self.patienceSeconds, tv_nsec: 0)
    var name = Array(Self.processName.utf8CString)
    var pidfd: Int32 = -1
    // Safety: without CLONE_VM the child has a copy of our memory, and of this thread's stack; what it is given lives there
    // for as long as it does. It makes system calls only, and never returns.
    let result = polls.withUnsafeMutableBufferPointer { polls in
      withUnsafeMutablePointer(to: &patience) { patience in
        name.withUnsafeMutableBufferPointer { name in
          let flags = Linux.CLONE_FILES | Linux.CLONE_PIDFD | Int(SIGCHLD)
          let result = withUnsafeMutablePointer(to: &pidfd) {
            c_syscall(Linux.SYS_clone, flags, 0, Int(bitPattern: $0), 0, 0)
          }
          if result == 0 { Self.wait(polls.baseAddress, patience, name.baseAddress) }
          return result
        }
      }
    }
    if result < 0 { throw SystemError("clone", errorNumber: errno) }
    self.watched = watched
    process = try ProcessHandle(pidfd: Descriptor(owning: pidfd))
  }

  /// - Returns: nil where nothing of the kind has that number.
  package func userfaultfd(_ number: Int32) -> Descriptor? {
    let call = PrivilegedCall(.takeUserfaultfd, limit: Int(number))
    let answer = attempt { try Privileges.perform(call, [process.descriptor], operation: "taking a userfaultfd") }
    return answer?.descriptor
  }

  /// What the process does: waits for the worker's death, then for the others'.
  private static func wait(
    _ polls: UnsafeMutablePointer<pollfd>?, _ patience: UnsafeMutablePointer<timespec>,
    _ name: UnsafeMutablePointer<CChar>?
  ) -> Never {
    _ = c_prctl(Linux.PR_SET_NAME, UInt(bitPattern: name))
    let worker = Int(bitPattern: polls)
    while c_syscall(Linux.SYS_ppoll, worker, 1, 0, 0, 0) == -1 && errno == EINTR {}
    // (The kernel leaves what remains of the time where it was.)
    for other in 1...2 {
      let place = Int(bitPattern: polls.map { $0 + other })
      while c_syscall(Linux.SYS_ppoll, place, 1, Int(bitPattern: patience), 0, 0) == -1 && errno == EINTR {}
    }
    while true { _ = c_syscall(Linux.SYS_exit_group, 0, 0, 0, 0, 0) }
  }

}
