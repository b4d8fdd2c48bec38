internal import Glibc

/// Numbers of system calls (<asm/unistd.h>) and what goes with them.
enum SystemCalls {
  static let CLONE_THREAD = 0x0001_0000
  static let SECCOMP_SET_MODE_FILTER = 1
  static let SECCOMP_FILTER_FLAG_TSYNC = 1

  /// ioctl(2): those of a userfaultfd but the handshake, which may need a right; and what a terminal is asked (isatty(3)).
  static let controls: [UInt32] =
    ([
      UFFD.UFFDIO_COPY, UFFD.UFFDIO_WRITEPROTECT, UFFD.UFFDIO_ZEROPAGE, UFFD.UFFDIO_WAKE, UFFD.UFFDIO_CONTINUE,
      UFFD.UFFDIO_POISON, UFFD.UFFDIO_REGISTER, UFFD.UFFDIO_UNREGISTER,
    ] as [UInt]).map { UInt32($0) } + [TCGETS]

  /// prctl(2): a thread's name, asked and given, and an allocation's (PR_SET_VMA).
  static let threadControls: [UInt32] = [15, 16, 0x5356_4D41]

  /// socketpair(2): SOCK_SEQPACKET | SOCK_CLOEXEC.
  static let sequencedPair: UInt32 = 0x80005
  /// fcntl(2): F_SETOWN, F_SETSIG, F_SETOWN_EX, by which the kernel sends signals for us.
  static let signallingControls: [UInt32] = [8, 10, 15]

  private static let TCGETS: UInt32 = 0x5401

  #if arch(x86_64)
    /// AUDIT_ARCH_X86_64 of <linux/audit.h>. (The x32 calls have numbers that are on no list.)
    static let architecture: UInt32 = 0xC000_003E
    static let SYS_seccomp = 317
    static let SYS_capset = 126
    static let ioctl: UInt32 = 16
    static let mmap: UInt32 = 9
    static let mprotect: UInt32 = 10
    static let clone: UInt32 = 56
    static let tgkill: UInt32 = 234
    static let prctl: UInt32 = 157
    static let prlimit64: UInt32 = 302
    static let socketpair: UInt32 = 53
    static let fcntl: UInt32 = 72

    /// read write open close stat fstat lstat poll lseek munmap brk rt_sigaction rt_sigprocmask rt_sigreturn pread64 pwrite64
    /// readv writev access sched_yield mremap mincore madvise dup nanosleep getpid sendmsg recvmsg sendto recvfrom shutdown
    /// getsockname getpeername setsockopt getsockopt exit uname fsync fdatasync ftruncate getdents getcwd
    /// readlink gettimeofday getrlimit getrusage sysinfo getuid getgid geteuid getegid getppid sigaltstack statfs fstatfs
    /// setpriority getpriority mlock munlock gettid time futex sched_getaffinity getdents64 restart_syscall fadvise64
    /// clock_gettime clock_getres clock_nanosleep exit_group epoll_wait epoll_ctl openat newfstatat readlinkat faccessat
    /// ppoll set_robust_list epoll_pwait fallocate signalfd4 eventfd2 epoll_create1 dup3 pipe2 preadv pwritev
    /// recvmmsg sendmmsg getcpu kcmp getrandom memfd_create membarrier mlock2 preadv2 pwritev2 statx rseq pidfd_open faccessat2
    private static let own: [UInt32] = [
      0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 14, 15, 17, 18, 19, 20, 21, 24, 25, 27, 28, 32, 35, 39, 46, 47, 44, 45, 48,
      51, 52, 54, 55, 60, 63, 74, 75, 77, 78, 79, 89, 96, 97, 98, 99, 102, 104, 107, 108, 110, 131, 137, 138,
      141, 140, 149, 150, 186, 201, 202, 204, 217, 219, 221, 228, 229, 230, 231, 232, 233, 257, 262, 267, 269, 271, 273,
      281, 285, 289, 290, 291, 292, 293, 295, 296, 299, 307, 309, 312, 318, 319, 324, 325, 327, 328, 332, 334,
    ]
  #elseif arch(arm64)
    /// AUDIT_ARCH_AARCH64.
    static let architecture: UInt32 = 0xC000_00B7
    static let SYS_seccomp = 277
    static let SYS_capset = 91
    static let ioctl: UInt32 = 29
    static let mmap: UInt32 = 222
    static let mprotect: UInt32 = 226
    static let clone: UInt32 = 220
    static let tgkill: UInt32 = 131
    static let prctl: UInt32 = 167
    static let prlimit64: UInt32 = 261
    static let socketpair: UInt32 = 199
    static let fcntl: UInt32 = 25

    /// The same calls, as far as they are there. (Untested: no such machine was to be had.)
    private static let own: [UInt32] = [
      17, 19, 20, 21, 22, 23, 24, 43, 44, 46, 47, 48, 56, 57, 59, 61, 62, 63, 64, 65, 66, 67, 68, 69, 70, 73, 74,
      78,
      79, 80, 82, 83, 93, 94, 98, 99, 101, 113, 114, 115, 123, 124, 128, 132, 134, 135, 139, 140, 141, 160, 163, 165,
      168, 169, 172, 173, 174, 175, 176, 177, 178, 179, 204, 205, 206, 207, 208, 209, 210, 211, 212, 214, 215, 216,
      223, 228, 229, 232, 233, 243, 269, 272, 278, 279, 283, 284, 286, 287, 291, 293,
    ]
  #endif
  static let clone3: UInt32 = 435

  /// Calls that are let through whatever their arguments: those above, pidfd_open, faccessat2 and cachestat.
  static let plain: [UInt32] = own + [434, 439, 451]
}
