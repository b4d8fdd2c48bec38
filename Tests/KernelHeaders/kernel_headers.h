// The kernel's and libc's own headers, for the test that proves the hand-written ABI of Sources/Adapters/Kernel.
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <linux/userfaultfd.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>

// Macros with casts or sizeof are not imported into Swift; an inline function carries their value over.
static inline unsigned long header_UFFDIO_API(void) { return UFFDIO_API; }
static inline unsigned long header_UFFDIO_REGISTER(void) { return UFFDIO_REGISTER; }
static inline unsigned long header_UFFDIO_UNREGISTER(void) { return UFFDIO_UNREGISTER; }
static inline unsigned long header_UFFDIO_WAKE(void) { return UFFDIO_WAKE; }
static inline unsigned long header_UFFDIO_COPY(void) { return UFFDIO_COPY; }
static inline unsigned long header_UFFDIO_ZEROPAGE(void) { return UFFDIO_ZEROPAGE; }
static inline unsigned long header_UFFDIO_WRITEPROTECT(void) { return UFFDIO_WRITEPROTECT; }
static inline unsigned long header_CMSG_LEN(unsigned long n) { return CMSG_LEN(n); }
static inline unsigned long header_CMSG_SPACE(unsigned long n) { return CMSG_SPACE(n); }
