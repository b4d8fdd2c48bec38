// Preloaded into a daemon (LD_PRELOAD), counts what its threads allocate, by the threads' names, in the file that
// SWAP_MONITOR_ALLOCATIONS names: 64-bit words, for "faults", for "file-faults" and for all others.
//
// It must neither allocate nor import anything that might. The compiler reserves names like `malloc`, so the linker gives
// them to these functions (Package.swift).

@_extern(c, "__libc_malloc") private func libcMalloc(_ size: Int) -> UnsafeMutableRawPointer?
@_extern(c, "__libc_calloc") private func libcCalloc(_ count: Int, _ size: Int) -> UnsafeMutableRawPointer?
@_extern(c, "__libc_realloc")
private func libcRealloc(_ old: UnsafeMutableRawPointer?, _ size: Int) -> UnsafeMutableRawPointer?
@_extern(c, "__libc_memalign") private func libcMemalign(_ alignment: Int, _ size: Int) -> UnsafeMutableRawPointer?
@_extern(c, "getenv") private func environment(_ name: UnsafePointer<CChar>) -> UnsafeMutablePointer<CChar>?
@_extern(c, "open") private func openFile(_ path: UnsafePointer<CChar>, _ flags: Int32) -> Int32
@_extern(c, "mmap")
private func map(
  _ address: UnsafeMutableRawPointer?, _ bytes: Int, _ protection: Int32, _ flags: Int32, _ file: Int32, _ offset: Int
) -> UnsafeMutableRawPointer?
@_extern(c, "prctl") private func threadControl(_ option: Int32, _ name: UnsafeMutableRawPointer) -> Int32

// From <linux/prctl.h>, <fcntl.h>, <sys/mman.h> and <errno.h>.
private let PR_GET_NAME: Int32 = 16
private let O_RDWR: Int32 = 2
private let PROT_READ_WRITE: Int32 = 3
private let MAP_SHARED: Int32 = 1
private let ENOMEM: Int32 = 12

/// The first eight bytes of a thread's name after the number, as a little-endian word.
private let faults: UInt64 = 0x7374_6c75_6166
private let fileFaults: UInt64 = 0x7561_662d_656c_6966

/// Mapped by whoever comes first. Should two come at once, both mappings show the same file.
nonisolated(unsafe) private var counts: UnsafeMutablePointer<UInt64>?

private func count() {
  if counts == nil {
    guard let path = environment("SWAP_MONITOR_ALLOCATIONS") else { return }
    let file = openFile(path, O_RDWR)
    guard file >= 0, let address = map(nil, 4096, PROT_READ_WRITE, MAP_SHARED, file, 0) else { return }
    if Int(bitPattern: address) == -1 { return }
    counts = address.assumingMemoryBound(to: UInt64.self)
  }
  var name: (UInt64, UInt64) = (0, 0)
  guard let counts, threadControl(PR_GET_NAME, &name) == 0 else { return }
  // "12 faults": the tenant's number comes first.
  while (name.0 & 0xFF >= 0x30 && name.0 & 0xFF <= 0x39) || name.0 & 0xFF == 0x20 {
    name.0 = name.0 >> 8 | name.1 << 56
    name.1 >>= 8
  }
  // A count may be lost where two threads share a word; none is invented, and not all can be lost.
  counts[name.0 == faults ? 0 : name.0 == fileFaults ? 1 : 2] &+= 1
}

@_cdecl("counting_malloc") public func countingMalloc(_ size: Int) -> UnsafeMutableRawPointer? {
  count()
  return libcMalloc(size)
}

@_cdecl("counting_calloc") public func countingCalloc(_ number: Int, _ size: Int) -> UnsafeMutableRawPointer? {
  count()
  return libcCalloc(number, size)
}

@_cdecl("counting_realloc")
public func countingRealloc(_ old: UnsafeMutableRawPointer?, _ size: Int) -> UnsafeMutableRawPointer? {
  count()
  return libcRealloc(old, size)
}

@_cdecl("counting_memalign") public func countingMemalign(_ alignment: Int, _ size: Int) -> UnsafeMutableRawPointer? {
  count()
  return libcMemalign(alignment, size)
}

@_cdecl("counting_aligned_alloc") public func countingAlignedAlloc(_ alignment: Int, _ size: Int)
  -> UnsafeMutableRawPointer?
{
  count()
  return libcMemalign(alignment, size)
}

@_cdecl("counting_posix_memalign")
public func countingPosixMemalign(
  _ result: UnsafeMutablePointer<UnsafeMutableRawPointer?>, _ alignment: Int, _ size: Int
) -> Int32 {
  count()
  let memory = libcMemalign(alignment, size)
  guard memory != nil else { return ENOMEM }
  result.pointee = memory
  return 0
}
