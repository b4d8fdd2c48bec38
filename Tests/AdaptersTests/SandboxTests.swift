import Glibc
import KernelHeaders
import Testing

@testable import Adapters

@Suite struct SandboxTests {
  /// What the kernel does with a filter (Documentation/networking/filter.rst), of the instructions that ours has.
  private static func verdict(_ program: [SystemCallFilter.Instruction], _ data: [UInt32]) -> UInt32? {
    var (place, accumulator) = (0, UInt32(0))
    while place < program.count {
      let instruction = program[place]
      place += 1
      switch instruction.code {
      case 0x20: accumulator = data[Int(instruction.operand) / 4]
      case 0x15:
        place += Int(accumulator == instruction.operand ? instruction.jumpIfTrue : instruction.jumpIfFalse)
      case 0x45:
        place += Int(accumulator & instruction.operand != 0 ? instruction.jumpIfTrue : instruction.jumpIfFalse)
      case 0x06: return instruction.operand
      default: return nil
      }
    }
    return nil
  }

  private static let allowed: UInt32 = 0x7FFF_0000
  private static func denied(_ errorNumber: Int32) -> UInt32 { 0x0005_0000 | UInt32(errorNumber) }

  /// `struct seccomp_data`, in words.
  private static func verdict(
    _ call: UInt32, _ arguments: [UInt64] = [], architecture: UInt32 = SystemCalls.architecture
  ) -> UInt32? {
    let words = (arguments + [0, 0, 0, 0, 0, 0]).prefix(6).flatMap {
      [UInt32(truncatingIfNeeded: $0), UInt32(truncatingIfNeeded: $0 >> 32)]
    }
    return verdict(SystemCallFilter.program(process: 4711), [call, architecture, 0, 0] + words)
  }

  @Test func `the filter lets through what is on the list, and nothing else`() {
    let special: Set<UInt32> = [
      SystemCalls.ioctl, SystemCalls.mmap, SystemCalls.mprotect, SystemCalls.clone, SystemCalls.tgkill,
      SystemCalls.prctl, SystemCalls.clone3, UInt32(Linux.SYS_sched_setattr), UInt32(Linux.SYS_sched_setaffinity),
      SystemCalls.prlimit64, SystemCalls.socketpair, SystemCalls.fcntl,
    ]
    let plain = Set(SystemCalls.plain)
    #expect(plain.count == SystemCalls.plain.count && plain.isDisjoint(with: special))
    for call in UInt32(0)..<600 where !special.contains(call) {
      #expect(Self.verdict(call) == (plain.contains(call) ? Self.allowed : Self.denied(EPERM)), "call \(call)")
      #expect(
        Self.verdict(call, architecture: 0x4000_0003) == Self.denied(EPERM), "call \(call) of another architecture")
      #expect(Self.verdict(call | 0x4000_0000) == Self.denied(EPERM), "call \(call) of x32")
    }
    #expect(SystemCallFilter.program(process: 1).count <= 4096, "BPF_MAXINSNS")
  }

  @Test func `the list is that of the names`() {
    let named = Set((0..<plain_call_count()).map { plain_call($0) })
    #expect(Set(SystemCalls.plain) == named, "numbers that differ: \(named.symmetricDifference(SystemCalls.plain))")
  }

  @Test func `some calls depend on their arguments`() {
    let (allowed, denied) = (Self.allowed, Self.denied(EPERM))
    for control in SystemCalls.controls { #expect(Self.verdict(SystemCalls.ioctl, [3, UInt64(control)]) == allowed) }
    for control in [0x5412, 0x5413, UInt64(UFFD.UFFDIO_API), UInt64(UFFD.USERFAULTFD_IOC_NEW), 0] {  // TIOCSTI, ...
      #expect(Self.verdict(SystemCalls.ioctl, [3, control]) == denied)
    }
    for call in [SystemCalls.mmap, SystemCalls.mprotect] {
      #expect(Self.verdict(call, [0, 4096, 3]) == allowed)
      for protection in [4, 5, 7] as [UInt64] { #expect(Self.verdict(call, [0, 4096, protection]) == denied) }
    }
    #expect(Self.verdict(SystemCalls.clone, [0x003D_0F00]) == allowed)  // pthread_create's
    for flags in [17, 0x4011, 0x0100_0411] as [UInt64] { #expect(Self.verdict(SystemCalls.clone, [flags]) == denied) }
    #expect(Self.verdict(SystemCalls.clone3) == Self.denied(ENOSYS))
    #expect(Self.verdict(SystemCalls.tgkill, [4711, 4712, 6]) == allowed)
    #expect(Self.verdict(SystemCalls.tgkill, [1, 1, 6]) == denied)
    #expect(Self.verdict(UInt32(Linux.SYS_sched_setattr), [0, 4096]) == allowed)
    #expect(Self.verdict(UInt32(Linux.SYS_sched_setattr), [1, 4096]) == denied)
    #expect(Self.verdict(UInt32(Linux.SYS_sched_setaffinity), [0, 128]) == allowed)
    #expect(Self.verdict(UInt32(Linux.SYS_sched_setaffinity), [1, 128]) == denied)
    #expect(
      Self.verdict(SystemCalls.prlimit64, [0, 7]) == allowed && Self.verdict(SystemCalls.prlimit64, [1]) == denied)
    #expect(Self.verdict(SystemCalls.socketpair, [1, 0x80005]) == allowed)
    #expect(Self.verdict(SystemCalls.socketpair, [1, 0x80002]) == denied)
    for control in [1, 2, 3, 4, 1024, 1034] as [UInt64] {  // F_GETFD to F_SETFL, F_SETLEASE, F_GET_SEALS
      #expect(Self.verdict(SystemCalls.fcntl, [3, control]) == allowed)
    }
    for control in [8, 10, 15] as [UInt64] { #expect(Self.verdict(SystemCalls.fcntl, [3, control]) == denied) }
    #expect(Self.verdict(SystemCalls.prctl, [15]) == allowed)
    for option in [1, 4, 22, 23, 38, 59] as [UInt64] { #expect(Self.verdict(SystemCalls.prctl, [option]) == denied) }
  }

  @Test func `in a sandbox nothing is possible but what is needed`() throws {
    let child = try Child { inside in
      let lack = try Sandbox.enter()
      let wrong = SandboxTrial.all().enumerated().first { !$1.isAsItShouldBe }
      // Without Landlock the first three are possible.
      guard lack == nil || wrong.map({ $0.offset < 3 }) == true else { return 97 }
      if let wrong, lack == nil { return Int32(wrong.offset + 1) }
      return SandboxTrial.capabilities == 0 ? 0 : 98
    }
    #expect(child.end() == .exit(0), "the number is the trial's, from 1 on")
  }

  @Test func `what is asked of an attendant comes through whole`() throws {
    let calls = [
      PrivilegedCall(.read, process: 12, limit: 1 << 40, offset: .max, text: "task/12/stat"),
      PrivilegedCall(.signal, limit: -1), PrivilegedCall(.makeSwapFile, text: "/a ü b"),
    ]
    for call in calls {
      #expect(PrivilegedCall(call.bytes) == call)
      #expect(PrivilegedCall(Array(call.bytes.prefix(23))) == nil)
    }
    #expect(PrivilegedCall([UInt8](repeating: 0xFF, count: 24)) == nil)
    for count in [0, 1, 70_000] {
      let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 7) }
      let packet = try PrivilegedAnswer(number: -3, bytes: bytes).packet()
      #expect(packet.descriptors.count == (count > 65_536 ? 1 : 0))
      let answer = try PrivilegedAnswer(
        Packet(bytes: packet.bytes, descriptors: packet.descriptors, isTruncated: false, lostDescriptors: false),
        operation: "asking")
      #expect(answer.number == -3 && answer.bytes == bytes)
    }
    let refusal = Packet(
      bytes: PrivilegedAnswer.packet(refusing: EACCES), descriptors: [], isTruncated: false, lostDescriptors: false)
    #expect(throws: SystemError("asking", errorNumber: EACCES)) {
      try PrivilegedAnswer(refusal, operation: "asking")
    }
  }

  @Test func `an attendant does what it is for, and nothing else`() throws {
    let directory = try TemporaryDirectory()
    let work = PrivilegedWork(swapDirectory: directory.path)
    func error(_ call: PrivilegedCall, _ descriptors: [Descriptor] = []) -> Int32? {
      do throws(SystemError) {
        _ = try work.perform(call, descriptors)
        return nil
      } catch { return error.errorNumber }
    }
    let own = getpid()
    for text in ["maps", "stat", "task/\(own)/comm", "fdinfo/0"] {
      #expect(error(PrivilegedCall(.read, process: own, limit: 100, text: text)) == nil, "\(text)")
    }
    for text in [
      "mem", "environ", "../../etc/passwd", "task/../mem", "root/etc/passwd", "cwd", "task/-1/comm", "fd/0", "task/1",
      "", "fdinfo/+1", "/maps",
    ] {
      #expect(error(PrivilegedCall(.read, process: own, limit: 100, text: text)) == EPERM, "\(text)")
    }
    #expect(error(PrivilegedCall(.read, process: -1, limit: 100, text: "maps")) == EPERM)
    #expect(error(PrivilegedCall(.read, process: .max, limit: 100, text: "maps")) == ENOENT)

    let child = try Child { $0.waitForEver() }
    let pidfd = [child.handle.descriptor]
    for signal in [SIGKILL, SIGTERM, SIGSEGV, 0, -1] {
      #expect(error(PrivilegedCall(.signal, limit: Int(signal)), pidfd) == EPERM)
    }
    #expect(child.handle.isAlive)
    #expect(error(PrivilegedCall(.signal, limit: Int(SIGSTOP)), pidfd) == nil)
    #expect(eventually { child.handle.isStopped })
    #expect(error(PrivilegedCall(.signal, limit: Int(SIGCONT)), pidfd) == nil)
    #expect(error(PrivilegedCall(.signal, limit: Int(SIGCONT))) == EINVAL)
    #expect(error(PrivilegedCall(.takeUserfaultfd, limit: 3), pidfd) == EPERM, "a pipe is no userfaultfd")

    let file = try work.perform(PrivilegedCall(.makeSwapFile, text: "/"), []).descriptor
    var (made, place) = (stat(), stat())
    #expect(fstat(try #require(file).raw, &made) == 0 && stat(directory.path, &place) == 0)
    #expect(made.st_dev == place.st_dev && made.st_nlink == 0 && made.st_mode & 0o777 == 0)
  }
}
