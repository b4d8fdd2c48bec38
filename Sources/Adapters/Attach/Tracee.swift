internal import Glibc

/// A thread of another process, held still for an instant to make system calls in its place (ptrace(2)). The others run on. All
/// calls come from one thread.
///
/// System calls are stepped by PTRACE_SYSCALL, whose stops are no signals: single steps end by a SIGTRAP, which resets the
/// process's own way with that, and which a SIGCONT leaves behind pending (seen: death). The thread is let go where it was
/// first held, in the kernel on its way back, where a call that was interrupted is begun anew.
///
/// A thread that has begun a borrowed call is waited for until it ends, however long that takes (its control group may be
/// frozen): let go before, it would go on with our registers. A tracer that is killed meanwhile can't help that.
struct Tracee: ~Copyable {
  private let task: Int32
  private let saved: Registers
  private let blocked: UInt64
  /// Where an instruction stands that makes a system call.
  private let site: UInt64
  private let memory: Descriptor
  private let begin: UInt64

  /// For how long a thread may take to be held.
  private static let limitNanoseconds: UInt64 = 1_000_000_000

  /// - Throws: EPERM where it may not be traced, or is traced by somebody else; ETIMEDOUT where it can't be held; ENOEXEC where
  ///   its calls can't be borrowed.
  init(_ process: Int32) throws(SystemError) {
    // The first thread may have ended before the others.
    let pid = try ProcessTask.all(of: process).first { !$0.isDead }?.identifier ?? process
    // A call that the process never makes itself may be answered with death by its seccomp filter: there is none while it is
    // held.
    do throws(SystemError) {
      try Self.request(Ptrace.SEIZE, pid, 0, Ptrace.O_TRACESYSGOOD | Ptrace.O_SUSPEND_SECCOMP, "tracing process \(pid)")
    } catch {
      guard ProcessStatus(pid: pid)["Seccomp"] == "0" else { throw error }
      try Self.request(Ptrace.SEIZE, pid, 0, Ptrace.O_TRACESYSGOOD, "tracing process \(pid)")
    }
    do throws(SystemError) {
      try Self.hold(pid, limitNanoseconds: Self.limitNanoseconds)
      let memory = try Descriptor(opening: "/proc/\(pid)/mem", O_RDWR)
      var saved = try Self.registers(of: pid)
      guard saved.runsNativeCode, !(try Self.hasDispatch(pid)) else {
        throw SystemError(
          "making a system call in process \(pid), a 32-bit program or one that dispatches its own",
          errorNumber: ENOEXEC)
      }
      // As the kernel does with whoever is interrupted there (rseq(2)): it could not tell any more.
      if let restart = try Self.restartOfSequence(pid, at: saved.instruction, memory) { saved.instruction = restart }
      let site = try Self.findSystemCall(pid, memory)
      var blocked: UInt64 = 0
      try Self.request(Ptrace.GETSIGMASK, pid, 8, &blocked, "reading the blocked signals of process \(pid)")
      // A handler would run on the borrowed registers. What comes meanwhile waits.
      var all = ~UInt64(0)
      try Self.request(Ptrace.SETSIGMASK, pid, 8, &all, "blocking the signals of process \(pid)")
      (task, self.saved, self.memory, self.site, self.blocked) = (pid, saved, memory, site, blocked)
      begin = SystemClock().nowNanoseconds
    } catch {
      _ = c_ptrace(Ptrace.DETACH, pid, 0, 0)
      throw error
    }
  }

  deinit {
    var (registers, mask) = (saved, blocked)
    // A thread that is dead has nothing to be put back. Else it is brought to where the kernel looks for signals, with its own
    // registers: there it begins the call anew that it was in.
    do throws(SystemError) {
      _ = Self.setRegisters(&registers, of: task)
      try Self.hold(task, limitNanoseconds: nil)
    } catch {}
    _ = withUnsafeMutablePointer(to: &mask) { c_ptrace(Ptrace.SETSIGMASK, task, 8, UInt(bitPattern: $0)) }
    _ = c_ptrace(Ptrace.DETACH, task, 0, 0)
  }

  /// How long it has been held by now.
  var heldNanoseconds: UInt64 { SystemClock().nowNanoseconds - begin }

  /// Makes a system call in the thread's place.
  ///
  /// - Returns: what it answers, -errno for an error.
  mutating func call(_ number: Int, _ arguments: UInt64...) throws(SystemError) -> Int {
    var registers = saved.calling(number, arguments, at: site)
    try checked("borrowing the registers of process \(task)") { Self.setRegisters(&registers, of: task) }
    for _ in 0..<2 {  // into the call, and out of it
      var signal: Int32 = 0
      repeat {
        try Self.request(Ptrace.SYSCALL, task, 0, UInt(signal), "stepping process \(task)")
        let stop = try Self.waitForStop(task, limitNanoseconds: nil)
        if stop.isSystemCall { break }
        // SIGSTOP can't be blocked: it takes its course, and the thread stays in it when it is let go.
        signal = stop.isEvent ? 0 : stop.signal
      } while true
    }
    return try Self.registers(of: task).result
  }

  func read(_ count: Int, at address: UInt64) throws(SystemError) -> [UInt8] {
    try Self.read(count, at: address, of: task, memory)
  }

  func write(_ bytes: [UInt8], at address: UInt64) throws(SystemError) {
    let put = try checked("writing the memory of process \(task)") {
      pwrite(memory.raw, bytes, bytes.count, Int(address))
    }
    guard put == bytes.count else { throw SystemError("writing the memory of process \(task)", errorNumber: EFAULT) }
  }

  // MARK: Stops

  private struct Stop {
    let status: Int32
    var signal: Int32 { status >> 8 & 0x7F }
    var isSystemCall: Bool { status >> 8 == SIGTRAP | 0x80 }
    /// One that is no signal's: asked for by PTRACE_INTERRUPT, or a stop of the whole process.
    var isEvent: Bool { status >> 16 == Ptrace.EVENT_STOP }
  }

  /// Brings the thread to a stop where the kernel looks for signals. Signals that come first are its own, and delivered.
  private static func hold(_ task: Int32, limitNanoseconds: UInt64?) throws(SystemError) {
    let deadline = limitNanoseconds.map { SystemClock().nowNanoseconds + $0 }
    var isRunning = limitNanoseconds != nil
    var signal: Int32 = 0
    while true {
      // Asked for each time: a signal's delivery forgets it.
      try request(Ptrace.INTERRUPT, task, 0, 0, "interrupting process \(task)")
      if !isRunning { try request(Ptrace.CONT, task, 0, UInt(signal), "letting a signal through to process \(task)") }
      isRunning = false
      let now = SystemClock().nowNanoseconds
      let left = deadline.map { $0 > now ? $0 - now : 0 }
      let stop = try waitForStop(task, limitNanoseconds: left)
      if stop.isEvent { return }
      signal = stop.isSystemCall ? 0 : stop.signal
      if let deadline, SystemClock().nowNanoseconds >= deadline {
        try request(Ptrace.CONT, task, 0, UInt(signal), "letting a signal through to process \(task)")
        throw SystemError("holding process \(task), which gets signal after signal", errorNumber: ETIMEDOUT)
      }
    }
  }

  /// Sleeps while the thread runs to where it stops, for it may need this very processor for that. SIGCHLD tells.
  private static func waitForStop(_ task: Int32, limitNanoseconds: UInt64?) throws(SystemError) -> Stop {
    let begin = SystemClock().nowNanoseconds
    var (change, former) = (sigset_t(), sigset_t())
    sigemptyset(&change)
    sigaddset(&change, SIGCHLD)
    pthread_sigmask(SIG_BLOCK, &change, &former)
    defer { pthread_sigmask(SIG_SETMASK, &former, nil) }
    while true {
      var status: Int32 = 0
      let found = try checked("waiting for process \(task)") { waitpid(task, &status, WNOHANG | Linux.__WALL) }
      if found == task {
        guard status & 0xFF == 0x7F else { throw SystemError("tracing process \(task)", errorNumber: ESRCH) }  // dead
        return Stop(status: status)
      }
      if let limitNanoseconds, SystemClock().nowNanoseconds - begin >= limitNanoseconds {
        throw SystemError("waiting for process \(task) to stop", errorNumber: ETIMEDOUT)
      }
      // Another thread of ours may take the signal, so it is not relied on.
      var pause = timespec(tv_sec: 0, tv_nsec: pauseNanoseconds)
      _ = sigtimedwait(&change, nil, &pause)
    }
  }

  private static let pauseNanoseconds = 1_000_000

  // MARK: What is found out

  private static func registers(of task: Int32) throws(SystemError) -> Registers {
    var registers = Registers()
    try withUnsafeMutablePointer(to: &registers) { (pointer) throws(SystemError) in
      var vector = iovec(iov_base: pointer, iov_len: MemoryLayout<Registers>.size)
      try request(Ptrace.GETREGSET, task, Ptrace.NT_PRSTATUS, &vector, "reading the registers of process \(task)")
    }
    return registers
  }

  private static func setRegisters(_ registers: inout Registers, of task: Int32) -> Int {
    withUnsafeMutablePointer(to: &registers) { pointer in
      var vector = iovec(iov_base: pointer, iov_len: MemoryLayout<Registers>.size)
      return withUnsafeMutablePointer(to: &vector) {
        c_ptrace(Ptrace.SETREGSET, task, Ptrace.NT_PRSTATUS, UInt(bitPattern: $0))
      }
    }
  }

  /// Where a thread has to begin anew that stands inside of a restartable sequence (rseq(2)); nil for one that does not.
  private static func restartOfSequence(_ task: Int32, at address: UInt64, _ memory: Descriptor) throws(SystemError)
    -> UInt64?
  {
    var configuration = (address: UInt64(0), rest: UInt64(0), more: UInt64(0))  // struct ptrace_rseq_configuration
    let size = UInt(MemoryLayout.size(ofValue: configuration))
    let isKnown = withUnsafeMutablePointer(to: &configuration) {
      c_ptrace(Ptrace.GET_RSEQ_CONFIGURATION, task, size, UInt(bitPattern: $0)) > 0
    }
    guard isKnown, configuration.address != 0 else { return nil }
    // struct rseq: the descriptor's address at 8. struct rseq_cs: its start, length and where to abort at 8, 16 and 24.
    let place = try read(8, at: configuration.address + 8, of: task, memory).number(UInt64.self, at: 0)
    guard place != 0 else { return nil }
    let sequence = try read(32, at: place, of: task, memory).numbers(UInt64.self)
    return address &- sequence[1] < sequence[2] ? sequence[3] : nil
  }

  /// Whether the process answers its own system calls (PR_SET_SYSCALL_USER_DISPATCH).
  private static func hasDispatch(_ task: Int32) throws(SystemError) -> Bool {
    var configuration = (mode: UInt64(0), selector: UInt64(0), offset: UInt64(0), length: UInt64(0))
    let size = UInt(MemoryLayout.size(ofValue: configuration))
    let result = withUnsafeMutablePointer(to: &configuration) {
      c_ptrace(Ptrace.GET_SYSCALL_USER_DISPATCH_CONFIG, task, size, UInt(bitPattern: $0))
    }
    return result == 0 && configuration.mode != 0
  }

  /// The vDSO has such an instruction, for what it can't answer itself; else libc.
  private static func findSystemCall(_ pid: Int32, _ memory: Descriptor) throws(SystemError) -> UInt64 {
    let maps = (ProcessMaps(pid: pid)?.mappings ?? []).filter(\.isExecutable)
    for mapping in maps.filter({ $0.path == "[vdso]" }) + maps.filter({ $0.path.contains("libc") }) + maps {
      let count = min(mapping.addresses.count, searchedBytes)
      var bytes = [UInt8](repeating: 0, count: count)
      let (got, _) = retryingInterrupts { pread(memory.raw, &bytes, count, Int(mapping.addresses.lowerBound)) }
      let instruction = Registers.systemCallInstruction
      let end = got - instruction.count + 1
      let found = (0..<max(end, 0)).first { bytes[$0] == instruction[0] && bytes[$0...].starts(with: instruction) }
      if let found { return mapping.addresses.lowerBound + UInt64(found) }
    }
    throw SystemError("finding a system call instruction in process \(pid)", errorNumber: ENOEXEC)
  }

  private static let searchedBytes = 4 << 20

  private static func read(_ count: Int, at address: UInt64, of task: Int32, _ memory: Descriptor) throws(SystemError)
    -> [UInt8]
  {
    var bytes = [UInt8](repeating: 0, count: count)
    let got = try checked("reading the memory of process \(task)") { pread(memory.raw, &bytes, count, Int(address)) }
    guard got == count else { throw SystemError("reading the memory of process \(task)", errorNumber: EFAULT) }
    return bytes
  }

  private static func request(_ number: Int32, _ task: Int32, _ address: UInt, _ data: UInt, _ operation: String)
    throws(SystemError)
  {
    if c_ptrace(number, task, address, data) == -1 { throw SystemError(operation, errorNumber: errno) }
  }

  private static func request<Value>(
    _ number: Int32, _ task: Int32, _ address: UInt, _ value: inout Value, _ operation: String
  ) throws(SystemError) {
    // Safety: the kernel writes or reads one value, which lives until the call has returned.
    try withUnsafeMutablePointer(to: &value) { (pointer) throws(SystemError) in
      try request(number, task, address, UInt(bitPattern: pointer), operation)
    }
  }
}

/// Numbers of <linux/ptrace.h> and <linux/elf.h>.
enum Ptrace {
  static let CONT: Int32 = 7
  static let DETACH: Int32 = 17
  static let SYSCALL: Int32 = 24
  static let GETREGSET: Int32 = 0x4204
  static let SETREGSET: Int32 = 0x4205
  static let SEIZE: Int32 = 0x4206
  static let INTERRUPT: Int32 = 0x4207
  static let GETSIGMASK: Int32 = 0x420A
  static let SETSIGMASK: Int32 = 0x420B
  static let GET_RSEQ_CONFIGURATION: Int32 = 0x420F
  static let GET_SYSCALL_USER_DISPATCH_CONFIG: Int32 = 0x4211
  static let EVENT_STOP: Int32 = 128
  static let O_TRACESYSGOOD: UInt = 1
  static let O_SUSPEND_SECCOMP: UInt = 1 << 21
  static let NT_PRSTATUS: UInt = 1
}
