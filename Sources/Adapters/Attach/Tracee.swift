internal import Glibc

/// The main thread of another process, held still for an instant to make system calls in its place (ptrace(2)). Its other
/// threads run on. All calls come from one thread.
///
/// However it ends, the thread goes on where it was: its registers and blocked signals are put back, and the kernel lets a
/// tracer's threads go when that dies. (Only a tracer that is killed between two of its own system calls, some microseconds
/// long, leaves a thread behind in the middle of the borrowed call.)
struct Tracee: ~Copyable {
  private let task: Int32
  private let saved: Registers
  private let blocked: UInt64
  /// Where an instruction stands that makes a system call.
  private let site: UInt64
  private let memory: Descriptor
  /// Somebody wanted to stop it meanwhile.
  private var mustStop = false
  private let begin: UInt64

  /// For how long a thread may take to stop, or to make a call.
  private static let limitNanoseconds: UInt64 = 1_000_000_000

  /// - Parameter suspendsFilter: the process has a seccomp filter, which might kill it for a call that it never makes itself.
  /// - Throws: EPERM where it may not be traced, or is traced by somebody else; ETIMEDOUT where it does not stop.
  init(_ pid: Int32, suspendsFilter: Bool) throws(SystemError) {
    let options = suspendsFilter ? Ptrace.O_SUSPEND_SECCOMP : 0
    try Self.request(Ptrace.SEIZE, pid, 0, options, "tracing process \(pid)")
    do throws(SystemError) {
      try Self.request(Ptrace.INTERRUPT, pid, 0, 0, "interrupting process \(pid)")
      try Self.waitUntilHeld(pid)
      let saved = try Self.registers(of: pid)
      guard saved.runsNativeCode else {
        throw SystemError("making a system call in process \(pid), a 32-bit program", errorNumber: ENOEXEC)
      }
      let memory = Descriptor(
        owning: try checked("opening /proc/\(pid)/mem") { open("/proc/\(pid)/mem", O_RDWR | O_CLOEXEC) })
      let site = try Self.findSystemCall(pid, memory)
      var blocked: UInt64 = 0
      try Self.request(Ptrace.GETSIGMASK, pid, 8, &blocked, "reading the blocked signals of process \(pid)")
      // A handler would run on the borrowed registers. What comes meanwhile waits; SIGTRAP is how a step ends.
      var all = ~UInt64(0) & ~(1 << UInt64(SIGTRAP - 1))
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
    // A thread that is dead has nothing to be put back.
    _ = Self.setRegisters(&registers, of: task)
    _ = withUnsafeMutablePointer(to: &mask) { c_ptrace(Ptrace.SETSIGMASK, task, 8, UInt(bitPattern: $0)) }
    _ = c_ptrace(Ptrace.DETACH, task, 0, 0)
    if mustStop { kill(task, SIGSTOP) }
  }

  /// How long it has been held by now.
  var heldNanoseconds: UInt64 { SystemClock().nowNanoseconds - begin }

  /// A few hundred bytes of the thread's stack that nothing of its own is in: below the red zone of 128 bytes that x86-64's
  /// calling convention lets it use without a word.
  static let scratchBytes = 512
  var scratch: UInt64 { (saved.stack - 128 - UInt64(Self.scratchBytes)) & ~15 }

  /// Makes a system call in the thread's place.
  ///
  /// - Returns: what it answers, -errno for an error.
  mutating func call(_ number: Int, _ arguments: UInt64...) throws(SystemError) -> Int {
    var registers = saved.calling(number, arguments, at: site)
    try checked("borrowing the registers of process \(task)") { Self.setRegisters(&registers, of: task) }
    while true {
      try Self.request(Ptrace.SINGLESTEP, task, 0, 0, "stepping process \(task)")
      let signal = try Self.waitForStop(task)
      let now = try Self.registers(of: task)
      if now.instruction == site + UInt64(Registers.systemCallInstruction.count) { return now.result }
      // Not yet: it is told of something else first. What can't be blocked is made up for at the end.
      if signal == SIGSTOP { mustStop = true }
    }
  }

  func read(_ count: Int, at address: UInt64) throws(SystemError) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    let got = try checked("reading the memory of process \(task)") { pread(memory.raw, &bytes, count, Int(address)) }
    guard got == count else { throw SystemError("reading the memory of process \(task)", errorNumber: EFAULT) }
    return bytes
  }

  func write(_ bytes: [UInt8], at address: UInt64) throws(SystemError) {
    let put = try checked("writing the memory of process \(task)") {
      pwrite(memory.raw, bytes, bytes.count, Int(address))
    }
    guard put == bytes.count else { throw SystemError("writing the memory of process \(task)", errorNumber: EFAULT) }
  }

  // MARK: Inside

  /// Waits for the stop that PTRACE_INTERRUPT asks for. Signals that come first are its own, and delivered.
  private static func waitUntilHeld(_ task: Int32) throws(SystemError) {
    while true {
      var status: Int32 = 0
      let signal = try waitForStop(task, &status)
      if status >> 16 == Ptrace.EVENT_STOP { return }
      try request(Ptrace.CONT, task, 0, UInt(signal), "letting a signal through to process \(task)")
    }
  }

  /// - Returns: the signal that it has stopped for.
  private static func waitForStop(_ task: Int32) throws(SystemError) -> Int32 {
    var status: Int32 = 0
    return try waitForStop(task, &status)
  }

  /// Sleeps while the thread runs to where it stops, for it may need this very processor for that. SIGCHLD tells.
  private static func waitForStop(_ task: Int32, _ status: inout Int32) throws(SystemError) -> Int32 {
    let begin = SystemClock().nowNanoseconds
    var (change, former) = (sigset_t(), sigset_t())
    sigemptyset(&change)
    sigaddset(&change, SIGCHLD)
    pthread_sigmask(SIG_BLOCK, &change, &former)
    defer { pthread_sigmask(SIG_SETMASK, &former, nil) }
    while true {
      let found = try checked("waiting for process \(task)") { waitpid(task, &status, WNOHANG | Linux.__WALL) }
      if found == task {
        guard status & 0xFF == 0x7F else { throw SystemError("tracing process \(task)", errorNumber: ESRCH) }  // dead
        return status >> 8 & 0xFF
      }
      guard SystemClock().nowNanoseconds - begin < limitNanoseconds else {
        throw SystemError("waiting for process \(task) to stop", errorNumber: ETIMEDOUT)
      }
      // Another thread of ours may take the signal, so it is not relied on.
      var pause = timespec(tv_sec: 0, tv_nsec: pauseNanoseconds)
      _ = sigtimedwait(&change, nil, &pause)
    }
  }

  private static let pauseNanoseconds = 1_000_000

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
      #if arch(arm64)
        // What x86-64 does by orig_rax: no interrupted call is to be restarted.
        var none: Int32 = -1
        withUnsafeMutablePointer(to: &none) { number in
          var call = iovec(iov_base: number, iov_len: 4)
          _ = withUnsafeMutablePointer(to: &call) {
            c_ptrace(Ptrace.SETREGSET, task, Ptrace.NT_ARM_SYSTEM_CALL, UInt(bitPattern: $0))
          }
        }
      #endif
      return withUnsafeMutablePointer(to: &vector) {
        c_ptrace(Ptrace.SETREGSET, task, Ptrace.NT_PRSTATUS, UInt(bitPattern: $0))
      }
    }
  }

  /// The vDSO has such an instruction, for what it can't answer itself; else libc.
  private static func findSystemCall(_ pid: Int32, _ memory: Descriptor) throws(SystemError) -> UInt64 {
    let maps = (ProcessMaps(pid: pid)?.mappings ?? []).filter(\.isExecutable)
    for mapping in maps.filter({ $0.path == "[vdso]" }) + maps.filter({ $0.path.contains("libc") }) + maps {
      let count = min(mapping.addresses.count, searchedBytes)
      var bytes = [UInt8](repeating: 0, count: count)
      let (got, _) = retryingInterrupts { pread(memory.raw, &bytes, count, Int(mapping.addresses.lowerBound)) }
      guard got > 0 else { continue }
      let instruction = Registers.systemCallInstruction
      let end = got - instruction.count + 1
      let found = (0..<max(end, 0)).first { bytes[$0] == instruction[0] && bytes[$0...].starts(with: instruction) }
      if let found { return mapping.addresses.lowerBound + UInt64(found) }
    }
    throw SystemError("finding a system call instruction in process \(pid)", errorNumber: ENOEXEC)
  }

  private static let searchedBytes = 4 << 20

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
  static let SINGLESTEP: Int32 = 9
  static let DETACH: Int32 = 17
  static let GETREGSET: Int32 = 0x4204
  static let SETREGSET: Int32 = 0x4205
  static let SEIZE: Int32 = 0x4206
  static let INTERRUPT: Int32 = 0x4207
  static let GETSIGMASK: Int32 = 0x420A
  static let SETSIGMASK: Int32 = 0x420B
  static let EVENT_STOP: Int32 = 128
  static let O_SUSPEND_SECCOMP: UInt = 1 << 21
  static let NT_PRSTATUS: UInt = 1
  static let NT_ARM_SYSTEM_CALL: UInt = 0x404
}
