import Glibc
import KernelHeaders
import Testing

@testable import Adapters

/// The hand-written ABI against the kernel's and libc's own headers. What is younger than the installed headers (6.1:
/// UFFDIO_POISON, its feature, WP_ASYNC; SO_PEERPIDFD) is proved by the running kernel's behaviour, here and in
/// KernelFactsTests.
@Suite struct KernelABITests {
  struct Pair: CustomTestStringConvertible, Sendable {
    let name: String
    let ours: UInt64
    let header: UInt64
    var testDescription: String { name }

    init(_ name: String, _ ours: some BinaryInteger, _ header: UInt64) {
      self.name = name
      self.ours = UInt64(truncatingIfNeeded: ours)
      self.header = header
    }
  }

  static let numbers = [
    Pair("UFFD_API", UFFD.API, header_UFFD_API()),
    Pair("USERFAULTFD_IOC_NEW", UFFD.USERFAULTFD_IOC_NEW, header_USERFAULTFD_IOC_NEW()),
    Pair("UFFDIO_API", UFFD.UFFDIO_API, header_UFFDIO_API()),
    Pair("UFFDIO_REGISTER", UFFD.UFFDIO_REGISTER, header_UFFDIO_REGISTER()),
    Pair("UFFDIO_UNREGISTER", UFFD.UFFDIO_UNREGISTER, header_UFFDIO_UNREGISTER()),
    Pair("UFFDIO_WAKE", UFFD.UFFDIO_WAKE, header_UFFDIO_WAKE()),
    Pair("UFFDIO_COPY", UFFD.UFFDIO_COPY, header_UFFDIO_COPY()),
    Pair("UFFDIO_ZEROPAGE", UFFD.UFFDIO_ZEROPAGE, header_UFFDIO_ZEROPAGE()),
    Pair("UFFDIO_WRITEPROTECT", UFFD.UFFDIO_WRITEPROTECT, header_UFFDIO_WRITEPROTECT()),
    Pair("_UFFDIO_WRITEPROTECT's bit", UFFD.IOCTL_WRITEPROTECT, 1 << header__UFFDIO_WRITEPROTECT()),
    Pair("UFFD_USER_MODE_ONLY", UFFD.USER_MODE_ONLY, header_UFFD_USER_MODE_ONLY()),
    Pair("UFFD_FEATURE_EVENT_FORK", UFFD.FEATURE_EVENT_FORK, header_UFFD_FEATURE_EVENT_FORK()),
    Pair("UFFD_FEATURE_EVENT_REMAP", UFFD.FEATURE_EVENT_REMAP, header_UFFD_FEATURE_EVENT_REMAP()),
    Pair("UFFD_FEATURE_EVENT_REMOVE", UFFD.FEATURE_EVENT_REMOVE, header_UFFD_FEATURE_EVENT_REMOVE()),
    Pair("UFFD_FEATURE_EVENT_UNMAP", UFFD.FEATURE_EVENT_UNMAP, header_UFFD_FEATURE_EVENT_UNMAP()),
    Pair("UFFD_FEATURE_SIGBUS", UFFD.FEATURE_SIGBUS, header_UFFD_FEATURE_SIGBUS()),
    Pair(
      "UFFD_FEATURE_WP_HUGETLBFS_SHMEM", UFFD.FEATURE_WP_HUGETLBFS_SHMEM, header_UFFD_FEATURE_WP_HUGETLBFS_SHMEM()),
    Pair("UFFDIO_REGISTER_MODE_MISSING", UFFD.REGISTER_MODE_MISSING, header_UFFDIO_REGISTER_MODE_MISSING()),
    Pair("UFFDIO_REGISTER_MODE_WP", UFFD.REGISTER_MODE_WP, header_UFFDIO_REGISTER_MODE_WP()),
    Pair("UFFDIO_REGISTER_MODE_MINOR", UFFD.REGISTER_MODE_MINOR, header_UFFDIO_REGISTER_MODE_MINOR()),
    Pair("UFFDIO_WRITEPROTECT_MODE_WP", UFFD.WRITEPROTECT_MODE_WP, header_UFFDIO_WRITEPROTECT_MODE_WP()),
    Pair("UFFD_EVENT_PAGEFAULT", UFFD.EVENT_PAGEFAULT, header_UFFD_EVENT_PAGEFAULT()),
    Pair("UFFD_EVENT_FORK", UFFD.EVENT_FORK, header_UFFD_EVENT_FORK()),
    Pair("UFFD_EVENT_REMAP", UFFD.EVENT_REMAP, header_UFFD_EVENT_REMAP()),
    Pair("UFFD_EVENT_REMOVE", UFFD.EVENT_REMOVE, header_UFFD_EVENT_REMOVE()),
    Pair("UFFD_EVENT_UNMAP", UFFD.EVENT_UNMAP, header_UFFD_EVENT_UNMAP()),
    Pair("UFFD_PAGEFAULT_FLAG_WP", UFFD.PAGEFAULT_FLAG_WP, header_UFFD_PAGEFAULT_FLAG_WP()),
    Pair("EPOLLIN", Linux.EPOLLIN, header_EPOLLIN()),
    Pair("EPOLLOUT", Linux.EPOLLOUT, header_EPOLLOUT()),
    Pair("EPOLLERR", Linux.EPOLLERR, header_EPOLLERR()),
    Pair("EPOLLHUP", Linux.EPOLLHUP, header_EPOLLHUP()),
    Pair("EPOLL_CTL_ADD", Linux.EPOLL_CTL_ADD, header_EPOLL_CTL_ADD()),
    Pair("EPOLL_CTL_DEL", Linux.EPOLL_CTL_DEL, header_EPOLL_CTL_DEL()),
    Pair("EPOLL_CTL_MOD", Linux.EPOLL_CTL_MOD, header_EPOLL_CTL_MOD()),
    Pair("EPOLL_CLOEXEC", 0o2000000, header_EPOLL_CLOEXEC()),
    Pair("EFD_CLOEXEC", Linux.EFD_CLOEXEC, header_EFD_CLOEXEC()),
    Pair("EFD_NONBLOCK", Linux.EFD_NONBLOCK, header_EFD_NONBLOCK()),
    Pair("SFD_CLOEXEC", Linux.SFD_CLOEXEC, header_SFD_CLOEXEC()),
    Pair("SFD_NONBLOCK", Linux.SFD_NONBLOCK, header_SFD_NONBLOCK()),
    Pair("RWF_NOWAIT", Linux.RWF_NOWAIT, header_RWF_NOWAIT()),
    Pair("PR_SET_PDEATHSIG", Linux.PR_SET_PDEATHSIG, header_PR_SET_PDEATHSIG()),
    Pair("PR_SET_NAME", Linux.PR_SET_NAME, header_PR_SET_NAME()),
    Pair("CLONE_FILES", Linux.CLONE_FILES, header_CLONE_FILES()),
    Pair("CLONE_PIDFD", Linux.CLONE_PIDFD, header_CLONE_PIDFD()),
    Pair("SYS_clone", Linux.SYS_clone, header_SYS_clone()),
    Pair("SYS_ppoll", Linux.SYS_ppoll, header_SYS_ppoll()),
    Pair("SYS_exit_group", Linux.SYS_exit_group, header_SYS_exit_group()),
    Pair("SYS_pidfd_getfd", Linux.SYS_pidfd_getfd, header_SYS_pidfd_getfd()),
    Pair("IOV_MAX, as SwapFileStore has it", 1024, header_IOV_MAX()),
    Pair("SCM_RIGHTS, as ControlMessage has it", 1, header_SCM_RIGHTS()),
    Pair("SYS_userfaultfd", Linux.SYS_userfaultfd, header_SYS_userfaultfd()),
    Pair("SYS_madvise", Linux.SYS_madvise, header_SYS_madvise()),
    Pair("SYS_pidfd_send_signal", Linux.SYS_pidfd_send_signal, header_SYS_pidfd_send_signal()),
    Pair("SYS_pidfd_open", Linux.SYS_pidfd_open, header_SYS_pidfd_open()),
    Pair("SYS_cachestat", Linux.SYS_cachestat, header_SYS_cachestat()),
    Pair("SYS_process_madvise", Linux.SYS_process_madvise, header_SYS_process_madvise()),
    Pair("SYS_kcmp", Linux.SYS_kcmp, header_SYS_kcmp()),
    Pair("SYS_close", Linux.SYS_close, header_SYS_close()),
    Pair("SYS_mmap", Linux.SYS_mmap, header_SYS_mmap()),
    Pair("SYS_munmap", Linux.SYS_munmap, header_SYS_munmap()),
    Pair("PTRACE_SYSCALL", Ptrace.SYSCALL, header_PTRACE_SYSCALL()),
    Pair("PTRACE_O_TRACESYSGOOD", Ptrace.O_TRACESYSGOOD, header_PTRACE_O_TRACESYSGOOD()),
    Pair("PTRACE_GET_RSEQ_CONFIGURATION", Ptrace.GET_RSEQ_CONFIGURATION, header_PTRACE_GET_RSEQ_CONFIGURATION()),
    Pair("SYS_seccomp", SystemCalls.SYS_seccomp, header_SYS_seccomp()),
    Pair("SYS_capset", SystemCalls.SYS_capset, header_SYS_capset()),
    Pair("SYS_mprotect", SystemCalls.mprotect, header_SYS_mprotect()),
    Pair("SYS_tgkill", SystemCalls.tgkill, header_SYS_tgkill()),
    Pair("SYS_prlimit64", SystemCalls.prlimit64, header_SYS_prlimit64()),
    Pair("SYS_fcntl", SystemCalls.fcntl, header_SYS_fcntl()),
    Pair("SYS_socketpair", SystemCalls.socketpair, header_SYS_socketpair()),
    Pair("SYS_prctl", SystemCalls.prctl, header_SYS_prctl()),
    Pair("SYS_clone3", SystemCalls.clone3, header_SYS_clone3()),
    Pair("SYS_mmap", SystemCalls.mmap, header_SYS_mmap()),
    Pair("SYS_ioctl", SystemCalls.ioctl, header_SYS_ioctl()),
    Pair("SYS_clone", SystemCalls.clone, header_SYS_clone()),
    Pair("SYS_ioctl", Linux.SYS_ioctl, header_SYS_ioctl()),
    Pair("SYS_recvmsg", Linux.SYS_recvmsg, header_SYS_recvmsg()),
    Pair("SYS_socketpair", Linux.SYS_socketpair, header_SYS_socketpair()),
    Pair("PTRACE_SEIZE", Ptrace.SEIZE, header_PTRACE_SEIZE()),
    Pair("PTRACE_INTERRUPT", Ptrace.INTERRUPT, header_PTRACE_INTERRUPT()),
    Pair("PTRACE_GETREGSET", Ptrace.GETREGSET, header_PTRACE_GETREGSET()),
    Pair("PTRACE_SETREGSET", Ptrace.SETREGSET, header_PTRACE_SETREGSET()),
    Pair("PTRACE_GETSIGMASK", Ptrace.GETSIGMASK, header_PTRACE_GETSIGMASK()),
    Pair("PTRACE_SETSIGMASK", Ptrace.SETSIGMASK, header_PTRACE_SETSIGMASK()),
    Pair("PTRACE_EVENT_STOP", Ptrace.EVENT_STOP, header_PTRACE_EVENT_STOP()),
    Pair("PTRACE_O_SUSPEND_SECCOMP", Ptrace.O_SUSPEND_SECCOMP, header_PTRACE_O_SUSPEND_SECCOMP()),
    Pair("NT_PRSTATUS", Ptrace.NT_PRSTATUS, header_NT_PRSTATUS()),
    Pair("__WALL", Linux.__WALL, header___WALL()),
    Pair("SYS_statx", Linux.SYS_statx, header_SYS_statx()),
    Pair("SYS_sched_setattr", Linux.SYS_sched_setattr, header_SYS_sched_setattr()),
    Pair("SYS_sched_setaffinity", Linux.SYS_sched_setaffinity, header_SYS_sched_setaffinity()),
    Pair("SYS_sched_getaffinity", Linux.SYS_sched_getaffinity, header_SYS_sched_getaffinity()),
    Pair("AT_EMPTY_PATH", Linux.AT_EMPTY_PATH, header_AT_EMPTY_PATH()),
  ]

  @Test("each number is the header's", arguments: numbers)
  func number(_ pair: Pair) { #expect(pair.ours == pair.header) }

  private static func offset<Root>(_ path: PartialKeyPath<Root>) -> Int { MemoryLayout<Root>.offset(of: path) ?? -1 }

  static let layouts = [
    Pair("uffd_msg", MemoryLayout<Adapters.uffd_msg>.size, header_sizeof_uffd_msg()),
    Pair("uffd_msg's stride", MemoryLayout<Adapters.uffd_msg>.stride, header_sizeof_uffd_msg()),
    Pair("uffd_msg.event", offset(\Adapters.uffd_msg.event), header_offset_uffd_msg_event()),
    Pair("uffd_msg flags", offset(\Adapters.uffd_msg.argument0), header_offset_uffd_msg_flags()),
    Pair("uffd_msg address", offset(\Adapters.uffd_msg.argument1), header_offset_uffd_msg_address()),
    Pair("uffd_msg start", offset(\Adapters.uffd_msg.argument0), header_offset_uffd_msg_start()),
    Pair("uffd_msg end", offset(\Adapters.uffd_msg.argument1), header_offset_uffd_msg_end()),
    Pair("uffdio_api", MemoryLayout<Adapters.uffdio_api>.size, header_sizeof_uffdio_api()),
    Pair("uffdio_api.api", offset(\Adapters.uffdio_api.api), header_offset_uffdio_api_api()),
    Pair("uffdio_api.features", offset(\Adapters.uffdio_api.features), header_offset_uffdio_api_features()),
    Pair("uffdio_api.ioctls", offset(\Adapters.uffdio_api.ioctls), header_offset_uffdio_api_ioctls()),
    Pair("uffdio_range", MemoryLayout<Adapters.uffdio_range>.size, header_sizeof_uffdio_range()),
    Pair("uffdio_range.start", offset(\Adapters.uffdio_range.start), header_offset_uffdio_range_start()),
    Pair("uffdio_range.len", offset(\Adapters.uffdio_range.len), header_offset_uffdio_range_len()),
    Pair("uffdio_register", MemoryLayout<Adapters.uffdio_register>.size, header_sizeof_uffdio_register()),
    Pair("uffdio_register.range", offset(\Adapters.uffdio_register.range), header_offset_uffdio_register_range()),
    Pair("uffdio_register.mode", offset(\Adapters.uffdio_register.mode), header_offset_uffdio_register_mode()),
    Pair("uffdio_register.ioctls", offset(\Adapters.uffdio_register.ioctls), header_offset_uffdio_register_ioctls()),
    Pair("uffdio_copy", MemoryLayout<Adapters.uffdio_copy>.size, header_sizeof_uffdio_copy()),
    Pair("uffdio_copy.dst", offset(\Adapters.uffdio_copy.dst), header_offset_uffdio_copy_dst()),
    Pair("uffdio_copy.src", offset(\Adapters.uffdio_copy.src), header_offset_uffdio_copy_src()),
    Pair("uffdio_copy.len", offset(\Adapters.uffdio_copy.len), header_offset_uffdio_copy_len()),
    Pair("uffdio_copy.mode", offset(\Adapters.uffdio_copy.mode), header_offset_uffdio_copy_mode()),
    Pair("uffdio_copy.copy", offset(\Adapters.uffdio_copy.copy), header_offset_uffdio_copy_copy()),
    Pair("uffdio_zeropage", MemoryLayout<uffdio_fill>.size, header_sizeof_uffdio_zeropage()),
    Pair("uffdio_zeropage.range", offset(\uffdio_fill.range), header_offset_uffdio_zeropage_range()),
    Pair("uffdio_zeropage.mode", offset(\uffdio_fill.mode), header_offset_uffdio_zeropage_mode()),
    Pair("uffdio_zeropage.zeropage", offset(\uffdio_fill.filled), header_offset_uffdio_zeropage_zeropage()),
    Pair("uffdio_writeprotect", MemoryLayout<Adapters.uffdio_writeprotect>.size, header_sizeof_uffdio_writeprotect()),
    Pair(
      "uffdio_writeprotect.range", offset(\Adapters.uffdio_writeprotect.range),
      header_offset_uffdio_writeprotect_range()),
    Pair(
      "uffdio_writeprotect.mode", offset(\Adapters.uffdio_writeprotect.mode), header_offset_uffdio_writeprotect_mode()),
    Pair("epoll_event", EventLoop.Event.bytes, header_sizeof_epoll_event()),
    Pair("epoll_event.events", 0, header_offset_epoll_event_events()),
    Pair("epoll_event.data", EventLoop.Event.tokenOffset, header_offset_epoll_event_data()),
    Pair("signalfd_siginfo, as EndSignals reads it", 128, header_sizeof_signalfd_siginfo()),
    Pair("signalfd_siginfo.ssi_signo", 0, header_offset_signalfd_siginfo_signo()),
    Pair("cmsghdr.cmsg_len", 0, header_offset_cmsghdr_len()),
    Pair("cmsghdr.cmsg_level", 8, header_offset_cmsghdr_level()),
    Pair("cmsghdr.cmsg_type", 12, header_offset_cmsghdr_type()),
    Pair("cmsghdr", 16, header_sizeof_cmsghdr()),
    Pair("msghdr, as BorrowedUserfaultfd lays it out", 56, header_sizeof_msghdr()),
    Pair("msghdr.msg_iov", 16, header_offset_msghdr_vector()),
    Pair("msghdr.msg_iovlen", 24, header_offset_msghdr_vectors()),
    Pair("msghdr.msg_control", 32, header_offset_msghdr_control()),
    Pair("msghdr.msg_controllen", 40, header_offset_msghdr_control_bytes()),
    Pair("user_regs_struct", MemoryLayout<Registers>.size, header_sizeof_user_regs_struct()),
  ]

  #if arch(x86_64)
    static let registers = [
      Pair("rax", offset(\Registers.rax), header_offset_user_regs_struct_rax()),
      Pair("orig_rax", offset(\Registers.orig_rax), header_offset_user_regs_struct_orig_rax()),
      Pair("rip", offset(\Registers.rip), header_offset_user_regs_struct_rip()),
      Pair("rsp", offset(\Registers.rsp), header_offset_user_regs_struct_rsp()),
      Pair("cs", offset(\Registers.cs), header_offset_user_regs_struct_cs()),
      Pair("rdi", offset(\Registers.rdi), header_offset_user_regs_struct_rdi()),
      Pair("rsi", offset(\Registers.rsi), header_offset_user_regs_struct_rsi()),
      Pair("rdx", offset(\Registers.rdx), header_offset_user_regs_struct_rdx()),
      Pair("r10", offset(\Registers.r10), header_offset_user_regs_struct_r10()),
      Pair("r8", offset(\Registers.r8), header_offset_user_regs_struct_r8()),
      Pair("r9", offset(\Registers.r9), header_offset_user_regs_struct_r9()),
    ]

    @Test("each register is where the header has it", arguments: registers)
    func register(_ pair: Pair) { #expect(pair.ours == pair.header) }
  #endif

  @Test("each structure has the header's size, and its fields the header's places", arguments: layouts)
  func layout(_ pair: Pair) { #expect(pair.ours == pair.header) }

  @Test("control messages are as long as CMSG_LEN and CMSG_SPACE say")
  func controlMessages() throws {
    for count in 0...SequencedSocket.descriptorLimit {
      #expect(ControlMessage.length(descriptors: count) == Int(header_CMSG_LEN(UInt(4 * count))))
      #expect(ControlMessage.space(descriptors: count) == Int(header_CMSG_SPACE(UInt(4 * count))))
    }
  }

  @Test("a device's number is libc's makedev")
  func deviceNumbers() {
    for major in [0, 1, 8, 0xFFF, 0x1000, 0xFFFF_FFFF] as [UInt32] {
      for minor in [0, 1, 0xFF, 0x100, 0xFFFFF, 0xFFFF_FFFF] as [UInt32] {
        #expect(DeviceNumber.make(major: UInt64(major), minor: UInt64(minor)) == header_makedev(major, minor))
      }
    }
  }

  @Test("feature bits that the headers lack are the running kernel's", .enabled(if: Machinery.hasUserfaultfd))
  func youngFeatures() throws {
    // A feature that the kernel does not know is refused; these are known; fdinfo shows them as they were asked for.
    for feature in [UFFD.FEATURE_POISON, UFFD.FEATURE_WP_ASYNC, UFFD.FEATURE_SIGBUS] {
      let descriptor = try Userfaultfd.create().descriptor
      try Userfaultfd.handshake(descriptor, features: feature)
      let line = (readText("/proc/self/fdinfo/\(descriptor.raw)") ?? "").split(separator: "\n")
        .first { $0.hasPrefix("API:") }
      let enabled = UInt64(try #require(line?.split(separator: ":")[2]), radix: 16) ?? 0
      #expect(enabled & (feature | UFFD.FEATURE_INITIALIZED) == feature | UFFD.FEATURE_INITIALIZED)
    }
  }

  @Test("UFFDIO_POISON's number and shape are the running kernel's", .enabled(if: Machinery.hasUserfaultfd))
  func poison() throws {
    let arena = try Arena(pages: 2)
    defer { arena.close() }
    // Another number would be EINVAL (userfaultfd_ioctl's default), another size another number.
    #expect(arena.poison(1) == 0)
    // The range is what we think it is: the neighbour is a hole as before, and the page now counts as filled.
    #expect(arena.poison(1) == EEXIST)
    #expect(arena.copy(1, 0..<1).errorNumber == 0)
  }

  @Test("SO_PEERPIDFD is the running kernel's")
  func peerPidfd() throws {
    var ends: [Int32] = [0, 0]
    try #require(socketpair(AF_UNIX, Int32(SOCK_SEQPACKET.rawValue | SOCK_CLOEXEC.rawValue), 0, &ends) == 0)
    let (one, other) = (Descriptor(owning: ends[0]), Descriptor(owning: ends[1]))
    var raw: Int32 = -1
    var length = socklen_t(4)
    try #require(getsockopt(one.raw, SOL_SOCKET, Linux.SO_PEERPIDFD, &raw, &length) == 0)
    #expect(try ProcessHandle(pidfd: Descriptor(owning: raw)).pid == getpid())
    withExtendedLifetime(other) {}
  }
}
