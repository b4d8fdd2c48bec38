// The kernel's and libc's own headers, for the test that proves the hand-written ABI of Sources/Adapters/Kernel.
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <elf.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/ptrace.h>
#include <linux/sched.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>

// Macros with casts or sizeof are not imported into Swift; an inline function carries their value over.
#define VALUE(name) \
  static inline unsigned long long header_##name(void) { return (unsigned long long)(name); }
#define LAYOUT(type) \
  static inline unsigned long long header_sizeof_##type(void) { return sizeof(struct type); }
#define FIELD(type, label, field) \
  static inline unsigned long long header_offset_##type##_##label(void) { return offsetof(struct type, field); }

VALUE(UFFD_API)
VALUE(USERFAULTFD_IOC_NEW)
VALUE(UFFDIO_API)
VALUE(UFFDIO_REGISTER)
VALUE(UFFDIO_UNREGISTER)
VALUE(UFFDIO_WAKE)
VALUE(UFFDIO_COPY)
VALUE(UFFDIO_ZEROPAGE)
VALUE(UFFDIO_WRITEPROTECT)
VALUE(_UFFDIO_WRITEPROTECT)
VALUE(UFFD_USER_MODE_ONLY)
VALUE(UFFD_FEATURE_EVENT_REMAP)
VALUE(UFFD_FEATURE_EVENT_REMOVE)
VALUE(UFFD_FEATURE_EVENT_UNMAP)
VALUE(UFFD_FEATURE_EVENT_FORK)
VALUE(UFFD_FEATURE_SIGBUS)
VALUE(UFFD_FEATURE_WP_HUGETLBFS_SHMEM)
VALUE(UFFDIO_REGISTER_MODE_MISSING)
VALUE(UFFDIO_REGISTER_MODE_WP)
VALUE(UFFDIO_REGISTER_MODE_MINOR)
VALUE(UFFDIO_WRITEPROTECT_MODE_WP)
VALUE(UFFD_EVENT_PAGEFAULT)
VALUE(UFFD_EVENT_REMAP)
VALUE(UFFD_EVENT_REMOVE)
VALUE(UFFD_EVENT_UNMAP)
VALUE(UFFD_EVENT_FORK)
VALUE(UFFD_PAGEFAULT_FLAG_WP)

VALUE(EPOLLIN)
VALUE(EPOLLOUT)
VALUE(EPOLLERR)
VALUE(EPOLLHUP)
VALUE(EPOLL_CTL_ADD)
VALUE(EPOLL_CTL_DEL)
VALUE(EPOLL_CTL_MOD)
VALUE(EPOLL_CLOEXEC)
VALUE(EFD_CLOEXEC)
VALUE(EFD_NONBLOCK)
VALUE(SFD_CLOEXEC)
VALUE(SFD_NONBLOCK)
VALUE(RWF_NOWAIT)
VALUE(PR_SET_PDEATHSIG)
VALUE(PR_SET_NAME)
VALUE(CLONE_FILES)
VALUE(CLONE_PIDFD)
VALUE(SYS_clone)
VALUE(SYS_ppoll)
VALUE(SYS_exit_group)
VALUE(SYS_pidfd_getfd)
VALUE(SCM_RIGHTS)
VALUE(IOV_MAX)
VALUE(SYS_userfaultfd)
VALUE(SYS_madvise)
VALUE(SYS_pidfd_send_signal)
VALUE(SYS_pidfd_open)
#ifndef SYS_cachestat  // of Linux 6.5
#define SYS_cachestat 451
#endif
VALUE(SYS_cachestat)
VALUE(SYS_process_madvise)
VALUE(SYS_kcmp)
VALUE(SYS_close)
VALUE(SYS_mmap)
VALUE(SYS_munmap)
VALUE(PTRACE_SYSCALL)
VALUE(PTRACE_O_TRACESYSGOOD)
VALUE(PTRACE_GET_RSEQ_CONFIGURATION)
VALUE(SYS_ioctl)
VALUE(SYS_recvmsg)
VALUE(SYS_socketpair)
VALUE(PTRACE_SEIZE)
VALUE(PTRACE_INTERRUPT)
VALUE(PTRACE_GETREGSET)
VALUE(PTRACE_SETREGSET)
VALUE(PTRACE_GETSIGMASK)
VALUE(PTRACE_SETSIGMASK)
VALUE(PTRACE_EVENT_STOP)
VALUE(PTRACE_O_SUSPEND_SECCOMP)
VALUE(NT_PRSTATUS)
VALUE(__WALL)
VALUE(SYS_seccomp)
VALUE(SYS_capset)
VALUE(SYS_mprotect)
VALUE(SYS_tgkill)
VALUE(SYS_prctl)
VALUE(SYS_prlimit64)
VALUE(SYS_fcntl)
VALUE(SYS_clone3)
VALUE(SYS_statx)
VALUE(SYS_sched_setattr)
VALUE(SYS_sched_setaffinity)
VALUE(SYS_sched_getaffinity)
VALUE(AT_EMPTY_PATH)

LAYOUT(uffd_msg)
FIELD(uffd_msg, event, event)
FIELD(uffd_msg, flags, arg.pagefault.flags)
FIELD(uffd_msg, address, arg.pagefault.address)
FIELD(uffd_msg, start, arg.remove.start)
FIELD(uffd_msg, end, arg.remove.end)
LAYOUT(uffdio_api)
FIELD(uffdio_api, api, api)
FIELD(uffdio_api, features, features)
FIELD(uffdio_api, ioctls, ioctls)
LAYOUT(uffdio_range)
FIELD(uffdio_range, start, start)
FIELD(uffdio_range, len, len)
LAYOUT(uffdio_register)
FIELD(uffdio_register, range, range)
FIELD(uffdio_register, mode, mode)
FIELD(uffdio_register, ioctls, ioctls)
LAYOUT(uffdio_copy)
FIELD(uffdio_copy, dst, dst)
FIELD(uffdio_copy, src, src)
FIELD(uffdio_copy, len, len)
FIELD(uffdio_copy, mode, mode)
FIELD(uffdio_copy, copy, copy)
LAYOUT(uffdio_zeropage)
FIELD(uffdio_zeropage, range, range)
FIELD(uffdio_zeropage, mode, mode)
FIELD(uffdio_zeropage, zeropage, zeropage)
LAYOUT(uffdio_writeprotect)
FIELD(uffdio_writeprotect, range, range)
FIELD(uffdio_writeprotect, mode, mode)
LAYOUT(epoll_event)
FIELD(epoll_event, events, events)
FIELD(epoll_event, data, data)
LAYOUT(signalfd_siginfo)
FIELD(signalfd_siginfo, signo, ssi_signo)
LAYOUT(cmsghdr)
FIELD(cmsghdr, len, cmsg_len)
FIELD(cmsghdr, level, cmsg_level)
FIELD(cmsghdr, type, cmsg_type)
LAYOUT(msghdr)
FIELD(msghdr, vector, msg_iov)
FIELD(msghdr, vectors, msg_iovlen)
FIELD(msghdr, control, msg_control)
FIELD(msghdr, control_bytes, msg_controllen)
LAYOUT(user_regs_struct)
#ifdef __x86_64__
FIELD(user_regs_struct, rax, rax)
FIELD(user_regs_struct, orig_rax, orig_rax)
FIELD(user_regs_struct, rip, rip)
FIELD(user_regs_struct, rsp, rsp)
FIELD(user_regs_struct, cs, cs)
FIELD(user_regs_struct, rdi, rdi)
FIELD(user_regs_struct, rsi, rsi)
FIELD(user_regs_struct, rdx, rdx)
FIELD(user_regs_struct, r10, r10)
FIELD(user_regs_struct, r8, r8)
FIELD(user_regs_struct, r9, r9)
#endif

static inline unsigned long header_CMSG_LEN(unsigned long n) { return CMSG_LEN(n); }
static inline unsigned long header_CMSG_SPACE(unsigned long n) { return CMSG_SPACE(n); }
static inline unsigned long long header_makedev(unsigned int major_number, unsigned int minor_number) {
  return makedev(major_number, minor_number);
}

// What a sandboxed worker may call whatever the arguments (SystemCalls.plain), as far as this machine has it.
static const unsigned plain_calls[] = {
#ifdef SYS_read
  SYS_read,
#endif
#ifdef SYS_write
  SYS_write,
#endif
#ifdef SYS_open
  SYS_open,
#endif
#ifdef SYS_close
  SYS_close,
#endif
#ifdef SYS_stat
  SYS_stat,
#endif
#ifdef SYS_fstat
  SYS_fstat,
#endif
#ifdef SYS_lstat
  SYS_lstat,
#endif
#ifdef SYS_poll
  SYS_poll,
#endif
#ifdef SYS_lseek
  SYS_lseek,
#endif
#ifdef SYS_munmap
  SYS_munmap,
#endif
#ifdef SYS_brk
  SYS_brk,
#endif
#ifdef SYS_rt_sigaction
  SYS_rt_sigaction,
#endif
#ifdef SYS_rt_sigprocmask
  SYS_rt_sigprocmask,
#endif
#ifdef SYS_rt_sigreturn
  SYS_rt_sigreturn,
#endif
#ifdef SYS_pread64
  SYS_pread64,
#endif
#ifdef SYS_pwrite64
  SYS_pwrite64,
#endif
#ifdef SYS_readv
  SYS_readv,
#endif
#ifdef SYS_writev
  SYS_writev,
#endif
#ifdef SYS_access
  SYS_access,
#endif
#ifdef SYS_sched_yield
  SYS_sched_yield,
#endif
#ifdef SYS_mremap
  SYS_mremap,
#endif
#ifdef SYS_mincore
  SYS_mincore,
#endif
#ifdef SYS_madvise
  SYS_madvise,
#endif
#ifdef SYS_dup
  SYS_dup,
#endif
#ifdef SYS_nanosleep
  SYS_nanosleep,
#endif
#ifdef SYS_getpid
  SYS_getpid,
#endif
#ifdef SYS_sendmsg
  SYS_sendmsg,
#endif
#ifdef SYS_recvmsg
  SYS_recvmsg,
#endif
#ifdef SYS_sendto
  SYS_sendto,
#endif
#ifdef SYS_recvfrom
  SYS_recvfrom,
#endif
#ifdef SYS_shutdown
  SYS_shutdown,
#endif
#ifdef SYS_getsockname
  SYS_getsockname,
#endif
#ifdef SYS_getpeername
  SYS_getpeername,
#endif
#ifdef SYS_setsockopt
  SYS_setsockopt,
#endif
#ifdef SYS_getsockopt
  SYS_getsockopt,
#endif
#ifdef SYS_exit
  SYS_exit,
#endif
#ifdef SYS_uname
  SYS_uname,
#endif
#ifdef SYS_fsync
  SYS_fsync,
#endif
#ifdef SYS_fdatasync
  SYS_fdatasync,
#endif
#ifdef SYS_ftruncate
  SYS_ftruncate,
#endif
#ifdef SYS_getdents
  SYS_getdents,
#endif
#ifdef SYS_getcwd
  SYS_getcwd,
#endif
#ifdef SYS_readlink
  SYS_readlink,
#endif
#ifdef SYS_gettimeofday
  SYS_gettimeofday,
#endif
#ifdef SYS_getrlimit
  SYS_getrlimit,
#endif
#ifdef SYS_getrusage
  SYS_getrusage,
#endif
#ifdef SYS_sysinfo
  SYS_sysinfo,
#endif
#ifdef SYS_getuid
  SYS_getuid,
#endif
#ifdef SYS_getgid
  SYS_getgid,
#endif
#ifdef SYS_geteuid
  SYS_geteuid,
#endif
#ifdef SYS_getegid
  SYS_getegid,
#endif
#ifdef SYS_getppid
  SYS_getppid,
#endif
#ifdef SYS_sigaltstack
  SYS_sigaltstack,
#endif
#ifdef SYS_statfs
  SYS_statfs,
#endif
#ifdef SYS_fstatfs
  SYS_fstatfs,
#endif
#ifdef SYS_setpriority
  SYS_setpriority,
#endif
#ifdef SYS_getpriority
  SYS_getpriority,
#endif
#ifdef SYS_mlock
  SYS_mlock,
#endif
#ifdef SYS_munlock
  SYS_munlock,
#endif
#ifdef SYS_gettid
  SYS_gettid,
#endif
#ifdef SYS_time
  SYS_time,
#endif
#ifdef SYS_futex
  SYS_futex,
#endif
#ifdef SYS_sched_getaffinity
  SYS_sched_getaffinity,
#endif
#ifdef SYS_getdents64
  SYS_getdents64,
#endif
#ifdef SYS_restart_syscall
  SYS_restart_syscall,
#endif
#ifdef SYS_fadvise64
  SYS_fadvise64,
#endif
#ifdef SYS_clock_gettime
  SYS_clock_gettime,
#endif
#ifdef SYS_clock_getres
  SYS_clock_getres,
#endif
#ifdef SYS_clock_nanosleep
  SYS_clock_nanosleep,
#endif
#ifdef SYS_exit_group
  SYS_exit_group,
#endif
#ifdef SYS_epoll_wait
  SYS_epoll_wait,
#endif
#ifdef SYS_epoll_ctl
  SYS_epoll_ctl,
#endif
#ifdef SYS_openat
  SYS_openat,
#endif
#ifdef SYS_newfstatat
  SYS_newfstatat,
#endif
#ifdef SYS_readlinkat
  SYS_readlinkat,
#endif
#ifdef SYS_faccessat
  SYS_faccessat,
#endif
#ifdef SYS_ppoll
  SYS_ppoll,
#endif
#ifdef SYS_set_robust_list
  SYS_set_robust_list,
#endif
#ifdef SYS_epoll_pwait
  SYS_epoll_pwait,
#endif
#ifdef SYS_fallocate
  SYS_fallocate,
#endif
#ifdef SYS_signalfd4
  SYS_signalfd4,
#endif
#ifdef SYS_eventfd2
  SYS_eventfd2,
#endif
#ifdef SYS_epoll_create1
  SYS_epoll_create1,
#endif
#ifdef SYS_dup3
  SYS_dup3,
#endif
#ifdef SYS_pipe2
  SYS_pipe2,
#endif
#ifdef SYS_preadv
  SYS_preadv,
#endif
#ifdef SYS_pwritev
  SYS_pwritev,
#endif
#ifdef SYS_recvmmsg
  SYS_recvmmsg,
#endif
#ifdef SYS_sendmmsg
  SYS_sendmmsg,
#endif
#ifdef SYS_getcpu
  SYS_getcpu,
#endif
#ifdef SYS_kcmp
  SYS_kcmp,
#endif
#ifdef SYS_getrandom
  SYS_getrandom,
#endif
#ifdef SYS_memfd_create
  SYS_memfd_create,
#endif
#ifdef SYS_membarrier
  SYS_membarrier,
#endif
#ifdef SYS_mlock2
  SYS_mlock2,
#endif
#ifdef SYS_preadv2
  SYS_preadv2,
#endif
#ifdef SYS_pwritev2
  SYS_pwritev2,
#endif
#ifdef SYS_statx
  SYS_statx,
#endif
#ifdef SYS_rseq
  SYS_rseq,
#endif
#ifdef SYS_pidfd_open
  SYS_pidfd_open,
#endif
#ifdef SYS_faccessat2
  SYS_faccessat2,
#endif
  SYS_cachestat,
};
static inline unsigned long plain_call_count(void) { return sizeof plain_calls / sizeof *plain_calls; }
static inline unsigned plain_call(unsigned long index) { return plain_calls[index]; }
