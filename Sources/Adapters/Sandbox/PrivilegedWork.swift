internal import Glibc

/// How what takes privilege is done. What a worker asks for is looked at first: it reads what clients send, and may be no
/// longer what it was.
struct PrivilegedWork: Sendable {
  /// Where swap files are made; nil in a process that does its own work, and makes them itself.
  let swapDirectory: String?

  func perform(_ call: PrivilegedCall, _ descriptors: [Descriptor]) throws(SystemError) -> PrivilegedAnswer {
    switch call.kind {
    case .read:
      PrivilegedAnswer(
        bytes: try readAll(path(call), limit: call.limit, from: Int(truncatingIfNeeded: call.offset)))
    case .entries:
      PrivilegedAnswer(bytes: try Self.entries(of: path(call)).flatMap(\.bytes))
    case .link: PrivilegedAnswer(bytes: try Self.target(of: path(call)))
    case .owner: PrivilegedAnswer(number: Int64(try Self.status(of: "/proc/\(call.process)").st_uid))
    case .tasks:
      PrivilegedAnswer(bytes: try Self.tasks(of: call.process, withPlaces: call.limit == 1).flatMap(\.bytes))
    case .signal:
      try signal(call.limit, to: try only(descriptors))
    case .takeUserfaultfd: try takeUserfaultfd(call.limit, of: try only(descriptors))
    case .sharesMemory:
      PrivilegedAnswer(
        number: c_syscall(Linux.SYS_kcmp, Int(call.process), call.limit, Self.kcmpMemory, 0, 0) == 0 ? 1 : 0)
    case .connect: PrivilegedAnswer(descriptor: try connect(call.text))
    case .signs:
      PrivilegedAnswer(
        bytes: Array((KernelAccessSigns.findHere(pid: call.process, drained: call.limit == 1) ?? "").utf8))
    case .socketOwner:
      try Self.ownerOfSocket(call.text)
    case .makeSwapFile: try makeSwapFile(call.text)
    case .handshake:
      PrivilegedAnswer(
        number: Int64(
          bitPattern: try Userfaultfd.handshakeHere(try only(descriptors), features: call.offset)))
    }
  }

  private func only(_ descriptors: [Descriptor]) throws(SystemError) -> Descriptor {
    guard descriptors.count == 1 else { throw SystemError("a descriptor is missing", errorNumber: EINVAL) }
    return descriptors[0]
  }

  // MARK: /proc

  /// What may be asked for, with N for a number. (A file that "fd/N" links to is none of them.)
  private static let names: [PrivilegedCall.Kind: Set<String>] = [
    .read: [
      "maps", "smaps", "status", "stat", "comm", "cgroup", "pagemap", "fdinfo/N", "task/N/children", "task/N/comm",
    ],
    .entries: ["", "task", "fd"],
    .link: ["fd/N"],
  ]

  private func path(_ call: PrivilegedCall) throws(SystemError) -> String {
    let parts = call.text.split(separator: "/", omittingEmptySubsequences: false)
    let isNumber = { (part: Substring) in !part.isEmpty && part.utf8.allSatisfy { (0x30...0x39).contains($0) } }
    let name = parts.map { isNumber($0) ? "N" : $0 }.joined(separator: "/")
    guard call.process >= 0, Self.names[call.kind]?.contains(name) == true, call.process > 0 || name.isEmpty else {
      throw SystemError("reading /proc", errorNumber: EPERM)
    }
    return call.process == 0 ? "/proc" : "/proc/\(call.process)/\(call.text)"
  }

  private static func entries(of path: String) throws(SystemError) -> [Int32] {
    guard let entries = numberedEntries(of: path) else { throw SystemError("listing \(path)", errorNumber: errno) }
    return entries
  }

  private static func target(of path: String) throws(SystemError) -> [UInt8] {
    guard let target = linkTarget(path) else { throw SystemError("reading \(path)", errorNumber: errno) }
    return Array(target.utf8)
  }

  private static func status(of path: String) throws(SystemError) -> stat {
    var status = stat()
    try checked("looking at \(path)") { stat(path, &status) }
    return status
  }

  /// KCMP_VM of kcmp(2).
  private static let kcmpMemory = 1

  /// - Throws: when it can't be told what tasks there are, or what one of them does: one that can't be seen is not gone.
  static func tasks(of pid: Int32, withPlaces: Bool) throws(SystemError) -> [ProcessTask] {
    var tasks: [ProcessTask] = []
    do throws(SystemError) {
      for identifier in try entries(of: "/proc/\(pid)/task") {
        do throws(SystemError) {
          tasks.append(try task(identifier, of: pid, withPlace: withPlaces))
        } catch {
          guard isGone(error) else { throw error }
        }
      }
    } catch {
      guard isGone(error) else { throw error }
    }
    return tasks
  }

  private static func isGone(_ error: SystemError) -> Bool { error.errorNumber == ENOENT || error.errorNumber == ESRCH }

  private static func text(_ path: String) throws(SystemError) -> String {
    String(decoding: try readAll(path, limit: 1024), as: UTF8.self)
  }

  /// As the file "stat" shows it, behind the command's name, which is in brackets and may hold anything.
  private static func state(in directory: String) throws(SystemError) -> Character {
    let text = try text("\(directory)/stat")
    return text.lastIndex(of: ")").flatMap { text[text.index(after: $0)...].first { $0 != " " } } ?? "?"
  }

  private static func task(_ identifier: Int32, of pid: Int32, withPlace: Bool) throws(SystemError) -> ProcessTask {
    let directory = "/proc/\(pid)/task/\(identifier)"
    let state = try state(in: directory)
    var task = ProcessTask(identifier: identifier, isStopped: stopped.contains(state), isDead: "ZXx".contains(state))
    if withPlace { task.place = try place(in: directory, task) }
    return task
  }

  /// Where a task is, by its file "syscall": the system call's number while it sleeps in one, -1 while it is blocked outside
  /// of any, "running" else (proc(5)).
  private static func place(in directory: String, _ task: ProcessTask) throws(SystemError) -> ProcessTask.Place {
    if task.isDead { return .outsideOfRemoval }
    let said: String
    do throws(SystemError) { said = try text("\(directory)/syscall") } catch {
      if isGone(error) { throw error }
      return .unknown
    }
    guard let number = Int(said.trimmingLine.prefix { $0 != " " }) else { return .unknown }
    let isRemoval = number == Linux.SYS_madvise || number == Linux.SYS_process_madvise
    // A task that is stopped on its way out of a call is done with it, and shows its number all the same. (It is looked at
    // again: it may have been stopped only since.)
    guard isRemoval else { return .outsideOfRemoval }
    return stopped.contains(try state(in: directory)) ? .outsideOfRemoval : .insideRemoval
  }

  /// States of tasks that run no more, or not now.
  private static let stopped = "TtZXx"

  // MARK: Others

  /// Tenants are stopped and let go on; who keeps an earlier worker's descriptors is ended.
  private func signal(_ number: Int, to pidfd: Descriptor) throws(SystemError) -> PrivilegedAnswer {
    if swapDirectory != nil {
      let pid = try ProcessHandle(pidfd: pidfd).pid
      let mayBe =
        switch Int32(truncatingIfNeeded: number) {
        case SIGCONT: true
        case SIGSTOP: ![1, getpid(), getppid()].contains(pid)
        case SIGKILL: Self.sharesDescriptors(pid)
        default: false
        }
      guard mayBe else { throw SystemError("sending signal \(number)", errorNumber: EPERM) }
    }
    try checked("sending signal \(number)") {
      c_syscall(Linux.SYS_pidfd_send_signal, Int(pidfd.raw), number, 0, 0, 0)
    }
    return PrivilegedAnswer()
  }

  /// Whether it is a process of ours that does nothing else (`SharedDescriptors`).
  private static func sharesDescriptors(_ pid: Int32) -> Bool {
    let files = ProcessFiles(pid: pid)
    return files.text("comm")?.trimmingLine == SharedDescriptors.processName && files.user == geteuid()
  }

  private func takeUserfaultfd(_ number: Int, of pidfd: Descriptor) throws(SystemError) -> PrivilegedAnswer {
    if swapDirectory != nil {
      guard Self.sharesDescriptors(try ProcessHandle(pidfd: pidfd).pid) else {
        throw SystemError("pidfd_getfd", errorNumber: EPERM)
      }
    }
    let raw = try checked("pidfd_getfd") { c_syscall(Linux.SYS_pidfd_getfd, Int(pidfd.raw), number, 0, 0, 0) }
    let descriptor = Descriptor(owning: Int32(raw))
    guard Userfaultfd.isOne(descriptor) else { throw SystemError("pidfd_getfd", errorNumber: EPERM) }
    return PrivilegedAnswer(descriptor: descriptor)
  }

  /// To a QEMU's monitor, and to nothing else: that greets who comes.
  private func connect(_ path: String) throws(SystemError) -> Descriptor {
    let kind = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
    let descriptor = Descriptor(owning: try checked("socket") { socket(AF_UNIX, kind, 0) })
    try withAddress(path, "connecting to \(path)") { Glibc.connect(descriptor.raw, $0, $1) }
    if swapDirectory == nil { return descriptor }
    let deadline = SystemClock().nowNanoseconds + Self.greetingNanoseconds
    var begin = [UInt8](repeating: 0, count: Self.greeting.count)
    while true {
      let now = SystemClock().nowNanoseconds
      let isReady = now < deadline && !Readable.wait(for: [descriptor], timeoutNanoseconds: deadline - now).isEmpty
      guard isReady else { throw SystemError("waiting for a greeting", errorNumber: ETIMEDOUT) }
      let count = recv(descriptor.raw, &begin, begin.count, Int32(MSG_PEEK) | Int32(MSG_DONTWAIT))
      guard count > 0, begin.prefix(count) == Self.greeting.prefix(count) else {
        throw SystemError("\(path) is no QEMU's QMP monitor", errorNumber: EPROTO)
      }
      if count == begin.count { return descriptor }
      usleep(1000)
    }
  }

  private static let greeting = Array(#"{"QMP""#.utf8)
  /// Another client may be connected, who is served first.
  private static let greetingNanoseconds: UInt64 = 2_000_000_000

  private static func ownerOfSocket(_ path: String) throws(SystemError) -> PrivilegedAnswer {
    let status = try status(of: path)
    guard status.st_mode & S_IFMT == S_IFSOCK else { throw SystemError("looking at \(path)", errorNumber: ENOTSOCK) }
    return PrivilegedAnswer(number: Int64(status.st_uid))
  }

  private func makeSwapFile(_ directory: String) throws(SystemError) -> PrivilegedAnswer {
    let (file, isDirect) = try SwapFileStore.createHere(in: swapDirectory ?? directory)
    return PrivilegedAnswer(number: isDirect ? 1 : 0, descriptor: file)
  }
}
