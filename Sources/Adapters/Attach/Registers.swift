/// A task's registers, as PTRACE_GETREGSET gives them for NT_PRSTATUS, and what a system call of this machine needs of them.
///
/// Seen at work on x86-64; arm64 is written after the kernel's headers, and untested.
#if arch(x86_64)
  /// `struct user_regs_struct` of <sys/user.h>, in its order.
  struct Registers: Equatable {
    var r15: UInt64 = 0
    var r14: UInt64 = 0
    var r13: UInt64 = 0
    var r12: UInt64 = 0
    var rbp: UInt64 = 0
    var rbx: UInt64 = 0
    var r11: UInt64 = 0
    var r10: UInt64 = 0
    var r9: UInt64 = 0
    var r8: UInt64 = 0
    var rax: UInt64 = 0
    var rcx: UInt64 = 0
    var rdx: UInt64 = 0
    var rsi: UInt64 = 0
    var rdi: UInt64 = 0
    var orig_rax: UInt64 = 0
    var rip: UInt64 = 0
    var cs: UInt64 = 0
    var eflags: UInt64 = 0
    var rsp: UInt64 = 0
    var ss: UInt64 = 0
    var fs_base: UInt64 = 0
    var gs_base: UInt64 = 0
    var ds: UInt64 = 0
    var es: UInt64 = 0
    var fs: UInt64 = 0
    var gs: UInt64 = 0

    /// The instruction `syscall`.
    static let systemCallInstruction: [UInt8] = [0x0F, 0x05]
    /// `__USER_CS` of the kernel's <asm/segment.h>: a task in 32-bit mode has another.
    private static let userCodeSegment: UInt64 = 0x33

    var runsNativeCode: Bool { cs == Self.userCodeSegment }
    var instruction: UInt64 {
      get { rip }
      set { rip = newValue }
    }
    var result: Int { Int(Int64(bitPattern: rax)) }

    /// The same task, about to execute a system call instead. Without `orig_rax` = -1 the kernel would take it for the call that
    /// was interrupted, and restart that (arch/x86/kernel/signal.c).
    func calling(_ number: Int, _ arguments: [UInt64], at address: UInt64) -> Registers {
      var registers = self
      func argument(_ index: Int) -> UInt64 { index < arguments.count ? arguments[index] : 0 }
      registers.rip = address
      registers.rax = UInt64(number)
      registers.orig_rax = .max
      (registers.rdi, registers.rsi, registers.rdx) = (argument(0), argument(1), argument(2))
      (registers.r10, registers.r8, registers.r9) = (argument(3), argument(4), argument(5))
      return registers
    }
  }
#elseif arch(arm64)
  /// `struct user_regs_struct` of <sys/user.h>, in its order.
  struct Registers: Equatable {
    var x: InlineArray<31, UInt64> = InlineArray(repeating: 0)
    var sp: UInt64 = 0
    var pc: UInt64 = 0
    var pstate: UInt64 = 0

    static func == (one: Registers, other: Registers) -> Bool {
      (one.sp, one.pc, one.pstate) == (other.sp, other.pc, other.pstate)
        && one.x.indices.allSatisfy { one.x[$0] == other.x[$0] }
    }

    /// The instruction `svc #0`.
    static let systemCallInstruction: [UInt8] = [0x01, 0x00, 0x00, 0xD4]
    /// PSR_MODE32_BIT of <asm/ptrace.h>.
    private static let mode32: UInt64 = 0x10

    var runsNativeCode: Bool { pstate & Self.mode32 == 0 }
    var instruction: UInt64 {
      get { pc }
      set { pc = newValue }
    }
    var result: Int { Int(Int64(bitPattern: x[0])) }

    func calling(_ number: Int, _ arguments: [UInt64], at address: UInt64) -> Registers {
      var registers = self
      for (index, argument) in arguments.enumerated() { registers.x[index] = argument }
      registers.x[8] = UInt64(number)
      registers.pc = address
      return registers
    }
  }
#endif
