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
VALUE(SYS_statx)
VALUE(SYS_sched_setattr)
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
