internal import Glibc

/// A process by its pidfd, which, unlike a number, never comes to mean another process.
package final class ProcessHandle: Sendable {
  /// The process's number in our PID namespace.
  package let pid: Int32
  package let descriptor: Descriptor

  /// - Throws: ESRCH when the process is dead, or is not in our PID namespace.
  package init(pidfd: Descriptor) throws(SystemError) {
    guard let pid = Self.pid(of: pidfd), pid > 0 else {
      throw SystemError("finding the process of a pidfd in /proc/self/fdinfo", errorNumber: ESRCH)
    }
    self.pid = pid
    descriptor = pidfd
  }

  package convenience init(pid: Int32) throws(SystemError) {
    let raw = try checked("pidfd_open(\(pid))") { c_syscall(Linux.SYS_pidfd_open, Int(pid), 0, 0, 0, 0) }
    try self.init(pidfd: Descriptor(owning: Int32(raw)))
  }

  /// A pidfd is readable once its process has ended (pidfd_open(2)).
  package var isAlive: Bool {
    var poll = pollfd(fd: descriptor.raw, events: Int16(POLLIN), revents: 0)
    let (count, _) = retryingInterrupts { Glibc.poll(&poll, 1, 0) }
    return count == 0
  }

  /// Its owner, as /proc shows it; root for a process that may not be looked into. nil when it is dead.
  package var user: UInt32? {
    let user = files.user
    return isAlive ? user : nil
  }

  /// The program's, as people know it (proc_pid_comm(5)).
  package var name: String { files.text("comm")?.trimmingLine ?? "process" }

  /// Whether it has no capability that its user need not have (ptrace(2), access mode checking).
  package var isUnprivileged: Bool { ProcessStatus(pid: pid)["CapPrm"]?.allSatisfy { $0 == "0" } == true }

  /// Whether it has a controlling terminal, whose shell may act when it is stopped (proc_pid_stat(5), tty_nr).
  package var hasTerminal: Bool {
    guard let text = files.text("stat"), let bracket = text.lastIndex(of: ")") else { return false }
    let fields = text[text.index(after: bracket)...].split(separator: " ")
    return fields.count > 4 && fields[4] != "0"
  }

  /// Whether all its tasks are stopped. One that is dead, or can't be looked at, is not.
  package var isStopped: Bool {
    attempt { try ProcessTask.all(of: pid).allSatisfy(\.isStopped) } == true && isAlive
  }

  private var files: ProcessFiles { ProcessFiles(pid: pid) }

  /// - Throws: ESRCH when the process is dead.
  package func send(_ signal: Int32) throws(SystemError) {
    _ = try Privileges.perform(
      PrivilegedCall(.signal, limit: Int(signal)), [descriptor], operation: "sending signal \(signal) to process \(pid)"
    )
  }

  /// Sends SIGCONT.
  package func letGoOn() {
    attempt { try send(SIGCONT) }  // else it is dead
  }

  /// Sends SIGKILL.
  package func kill() {
    attempt { try send(SIGKILL) }  // else it is dead
  }

  /// The children of its main thread, as /proc shows them (proc_pid_task_children(5)); those that are dead already are left out.
  package func children() -> [ProcessHandle] {
    (files.text("task/\(pid)/children") ?? "").split(separator: " ").compactMap { word in
      Int32(word).flatMap { child in attempt { try ProcessHandle(pid: child) } }
    }.filter(\.isAlive)
  }

  /// The process's number as fdinfo tells it: 0 outside of our namespace, -1 once it has been reaped.
  private static func pid(of pidfd: Descriptor) -> Int32? {
    guard let text = readText("/proc/self/fdinfo/\(pidfd.raw)") else { return nil }
    for line in text.split(separator: "\n") where line.hasPrefix("Pid:") {
      return Int32(String(line.dropFirst(4)).trimmingLine.filter { $0 != "\t" })
    }
    return nil
  }
}
