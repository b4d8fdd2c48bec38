internal import Glibc

/// The system calls that a worker may make, as a seccomp filter (a BPF program over `struct seccomp_data`: the call's number,
/// the architecture, the instruction's address, and six arguments).
///
/// What is not on the list fails with EPERM. It does not kill: an overlooked call should cost an operation, not a virtual
/// machine its memory.
enum SystemCallFilter {
  /// `struct sock_filter`.
  struct Instruction: Equatable {
    var code: UInt16
    var jumpIfTrue: UInt8 = 0
    var jumpIfFalse: UInt8 = 0
    var operand: UInt32
  }

  // From <linux/bpf_common.h>: opcodes.
  private static let loadWord: UInt16 = 0x20  // BPF_LD | BPF_W | BPF_ABS
  private static let jumpIfEqual: UInt16 = 0x15  // BPF_JMP | BPF_JEQ | BPF_K
  private static let jumpIfAnySet: UInt16 = 0x45  // BPF_JMP | BPF_JSET | BPF_K
  private static let result: UInt16 = 0x06  // BPF_RET | BPF_K

  // From <linux/seccomp.h>: verdicts, and places in `seccomp_data`.
  private static let allow: UInt32 = 0x7FFF_0000
  private static let failing: UInt32 = 0x0005_0000  // SECCOMP_RET_ERRNO, with the error number
  private static let numberOffset: UInt32 = 0
  private static let architectureOffset: UInt32 = 4
  /// Of an argument's lower half, on little-endian machines.
  private static func argumentOffset(_ index: UInt32) -> UInt32 { 16 + 8 * index }

  /// - Parameter process: this one's number, the only one whose threads may be signalled (abort(3)).
  static func program(process: UInt32) -> [Instruction] {
    var program = [
      load(architectureOffset), skip(1, if: SystemCalls.architecture), deny(EPERM), load(numberOffset),
    ]
    program += when(SystemCalls.ioctl, among: SystemCalls.controls, argument: 1)
    for call in [SystemCalls.mmap, SystemCalls.mprotect] {
      program += when(call, noneOf: UInt32(PROT_EXEC), argument: 2)
    }
    program += when(SystemCalls.clone, anyOf: UInt32(SystemCalls.CLONE_THREAD), argument: 0)
    program += when(SystemCalls.tgkill, among: [process], argument: 0)
    program += when(SystemCalls.prctl, among: SystemCalls.threadControls, argument: 0)
    program += when(SystemCalls.prlimit64, among: [0, process], argument: 0)
    // Pairs for links only: a datagram socket reaches whoever it names.
    program += when(SystemCalls.socketpair, among: [SystemCalls.sequencedPair], argument: 1)
    program += when(SystemCalls.fcntl, notAmong: SystemCalls.signallingControls, argument: 1)
    // Of the calling thread itself.
    for call in [Linux.SYS_sched_setattr, Linux.SYS_sched_setaffinity] {
      program += when(UInt32(call), among: [0], argument: 0)
    }
    // glibc tries this one first, whose arguments no filter can see, and then the one above.
    program += [skip(1, unless: SystemCalls.clone3), deny(ENOSYS)]
    for call in SystemCalls.plain { program += [skip(1, unless: call), allowed] }
    return program + [deny(EPERM)]
  }

  private static var allowed: Instruction { Instruction(code: result, operand: allow) }
  private static func deny(_ errorNumber: Int32) -> Instruction {
    Instruction(code: result, operand: failing | UInt32(errorNumber))
  }
  private static func load(_ offset: UInt32) -> Instruction { Instruction(code: loadWord, operand: offset) }
  private static func skip(_ count: Int, if value: UInt32) -> Instruction {
    Instruction(code: jumpIfEqual, jumpIfTrue: UInt8(count), operand: value)
  }
  private static func skip(_ count: Int, unless value: UInt32) -> Instruction {
    Instruction(code: jumpIfEqual, jumpIfFalse: UInt8(count), operand: value)
  }

  private static func skip(_ count: Int, unlessAnyOf bits: UInt32) -> Instruction {
    Instruction(code: jumpIfAnySet, jumpIfFalse: UInt8(count), operand: bits)
  }

  /// The checks of one call's argument, of which the first that applies decides.
  private static func when(_ call: UInt32, argument: UInt32, _ checks: [Instruction]) -> [Instruction] {
    [skip(checks.count + 1, unless: call), load(argumentOffset(argument))] + checks
  }

  private static func when(_ call: UInt32, among values: [UInt32], argument: UInt32) -> [Instruction] {
    when(call, argument: argument, values.flatMap { [skip(1, unless: $0), allowed] } + [deny(EPERM)])
  }

  private static func when(_ call: UInt32, notAmong values: [UInt32], argument: UInt32) -> [Instruction] {
    when(call, argument: argument, values.flatMap { [skip(1, unless: $0), deny(EPERM)] } + [allowed])
  }

  private static func when(_ call: UInt32, anyOf bits: UInt32, argument: UInt32) -> [Instruction] {
    when(call, argument: argument, [skip(1, unlessAnyOf: bits), allowed, deny(EPERM)])
  }

  private static func when(_ call: UInt32, noneOf bits: UInt32, argument: UInt32) -> [Instruction] {
    when(call, argument: argument, [skip(1, unlessAnyOf: bits), deny(EPERM), allowed])
  }

  /// Has the kernel apply it to all threads of this process, for good.
  ///
  /// - Throws: EPERM without no_new_privs.
  static func apply(_ program: [Instruction]) throws(SystemError) {
    // struct sock_fprog: a length (16 bits) and, at the next multiple of eight, the instructions' address.
    let result = program.withUnsafeBufferPointer { instructions in
      var description = (UInt64(instructions.count), UInt64(UInt(bitPattern: instructions.baseAddress)))
      // Safety: the kernel copies the program before it returns.
      return withUnsafePointer(to: &description) {
        c_syscall(
          SystemCalls.SYS_seccomp, SystemCalls.SECCOMP_SET_MODE_FILTER, SystemCalls.SECCOMP_FILTER_FLAG_TSYNC,
          Int(bitPattern: $0), 0, 0)
      }
    }
    // With TSYNC, a thread's number tells who could not be brought along.
    if result != 0 {
      throw SystemError("applying the filter of system calls", errorNumber: result > 0 ? ESRCH : errno)
    }
  }
}
