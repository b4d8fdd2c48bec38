// Functions of libc that the Glibc module does not import. `@_extern(c)` gives them the true C calling convention;
// variadic ones are declared with the arguments that are passed, which is sound on x86-64 and arm64 Linux.

@_extern(c, "epoll_create1") func c_epoll_create1(_ flags: Int32) -> Int32
@_extern(c, "epoll_ctl")
func c_epoll_ctl(_ epoll: Int32, _ operation: Int32, _ descriptor: Int32, _ event: UnsafeMutableRawPointer?) -> Int32
@_extern(c, "epoll_wait")
func c_epoll_wait(_ epoll: Int32, _ events: UnsafeMutableRawPointer, _ count: Int32, _ timeoutMilliseconds: Int32)
  -> Int32
@_extern(c, "eventfd") func c_eventfd(_ initial: UInt32, _ flags: Int32) -> Int32
@_extern(c, "signalfd") func c_signalfd(_ descriptor: Int32, _ mask: UnsafeRawPointer, _ flags: Int32) -> Int32
@_extern(c, "prctl") func c_prctl(_ option: Int32, _ argument: UInt) -> Int32

/// One declaration only: two of different shapes for one symbol crash the compiler (6.3.1).
@_extern(c, "syscall")
func c_syscall(_ number: Int, _ a: Int, _ b: Int, _ c: Int, _ d: Int, _ e: Int) -> Int

/// Its request is an enumeration in <sys/ptrace.h>, an `int`; the results of the requests that we make are all 0 or -1.
@_extern(c, "ptrace") func c_ptrace(_ request: Int32, _ task: Int32, _ address: UInt, _ data: UInt) -> Int
