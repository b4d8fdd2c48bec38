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
    var status = stat()
    guard stat("/proc/\(pid)", &status) == 0, isAlive else { return nil }
    return status.st_uid
  }

  /// The program's, as people know it (proc_pid_comm(5)).
  package var name: String { readText("/proc/\(pid)/comm")?.trimmingLine ?? "process" }

  /// Whether it has no capability that its user need not have (ptrace(2), access mode checking).
  package var isUnprivileged: Bool { ProcessStatus(pid: pid)["CapPrm"]?.allSatisfy { $0 == "0" } == true }

  /// Whether it has a controlling terminal, whose shell may act when it is stopped (proc_pid_stat(5), tty_nr).
  package var hasTerminal: Bool {
    guard let text = readText("/proc/\(pid)/stat"), let bracket = text.lastIndex(of: ")") else { return false }
    let fields = text[text.index(after: bracket)...].split(separator: " ")
    return fields.count > 4 && fields[4] != "0"
  }

  package var isStopped: Bool { ProcessTasks(pid: pid).isStopped(pid) && isAlive }

  /// - Throws: ESRCH when the process is dead.
  package func send(_ signal: Int32) throws(SystemError) {
    try checked("sending signal \(signal) to process \(pid)") {
      c_syscall(Linux.SYS_pidfd_send_signal, Int(descriptor.raw), Int(signal), 0, 0, 0)
    }
  }

  /// Sends SIGCONT.
  package func letGoOn() {
    do throws(SystemError) { try send(SIGCONT) } catch {}  // it is dead
  }

  /// Sends SIGKILL.
  package func kill() {
    do throws(SystemError) { try send(SIGKILL) } catch {}  // it is dead
  }

  /// The children of its main thread, as /proc shows them (proc_pid_task_children(5)); those that are dead already are left out.
  package func children() -> [ProcessHandle] {
    (readText("/proc/\(pid)/task/\(pid)/children") ?? "").split(separator: " ").compactMap { word in
      guard let child = Int32(word) else { return nil }
      do throws(SystemError) {
        let handle = try ProcessHandle(pid: child)
        return handle.isAlive ? handle : nil
      } catch { return nil }
    }
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

/// What /proc says of a process's tasks.
struct ProcessTasks {
  let pid: Int32

  /// The process's task numbers; empty when it is gone.
  func identifiers() throws(SystemError) -> [Int32] {
    if let found = numberedEntries(of: "/proc/\(pid)/task") { return found }
    if errno == ENOENT || errno == ESRCH { return [] }
    throw SystemError("listing /proc/\(pid)/task", errorNumber: errno)
  }

  /// Whether a task is stopped (T, or t under ptrace), or dead (Z, X), or gone.
  func isStopped(_ task: Int32) -> Bool {
    guard let text = readText("/proc/\(pid)/task/\(task)/stat") else { return isGone(task) }
    // The state follows the command's name, which is in brackets and may hold anything.
    guard let bracket = text.lastIndex(of: ")") else { return true }
    let state = text[text.index(after: bracket)...].first { $0 != " " }
    return state.map { "TtZXx".contains($0) } ?? true
  }

  func isDead(_ task: Int32) -> Bool {
    guard let text = readText("/proc/\(pid)/task/\(task)/stat"), let bracket = text.lastIndex(of: ")") else {
      return true
    }
    return text[text.index(after: bracket)...].first { $0 != " " }.map { "ZXx".contains($0) } ?? true
  }

  enum Place: Equatable {
    case outsideOfRemoval
    case insideRemoval
    /// It is on a processor, or we may not look: nothing is told.
    case unknown
  }

  /// Where a task is, by /proc/PID/task/TID/syscall: the system call's number while it sleeps in one, -1 while it is
  /// blocked outside of any, "running" else (proc(5)).
  func place(of task: Int32) -> Place {
    guard let text = readText("/proc/\(pid)/task/\(task)/syscall") else {
      return isGone(task) ? .outsideOfRemoval : .unknown
    }
    guard let number = Int(text.trimmingLine.prefix { $0 != " " }) else { return .unknown }
    let isRemoval = number == Linux.SYS_madvise || number == Linux.SYS_process_madvise
    // A task that is stopped on its way out of a call is done with it, and shows its number all the same.
    return isRemoval && !isStopped(task) ? .insideRemoval : .outsideOfRemoval
  }

  private func isGone(_ task: Int32) -> Bool { access("/proc/\(pid)/task/\(task)", F_OK) != 0 }
}
