internal import Glibc

/// A range of this process's address space, unmapped when its owner lets it go.
final class MemoryMapping: @unchecked Sendable {  // the address never changes; what lies there is its user's business
  let address: UnsafeMutableRawPointer
  let count: Int

  /// Maps a file, shared.
  init(of descriptor: Descriptor, bytes: Int, writable: Bool, operation: String) throws(SystemError) {
    let protection = writable ? PROT_READ | PROT_WRITE : PROT_READ
    address = try Self.map(bytes, protection, MAP_SHARED | Int32(MAP_NORESERVE), descriptor.raw, operation)
    count = bytes
  }

  /// Maps memory of its own.
  init(anonymousBytes bytes: Int, operation: String) throws(SystemError) {
    address = try Self.map(bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | Int32(MAP_ANONYMOUS), -1, operation)
    count = bytes
  }

  /// The same in huge pages, where the kernel has them to give.
  init(anonymousBytes bytes: Int, inPagesOf hugePageBytes: Int, operation: String) throws(SystemError) {
    let whole = try Self.map(
      bytes + hugePageBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | Int32(MAP_ANONYMOUS), -1, operation)
    // Safety: what is unmapped is ours, and on either side of what stays.
    let before = (hugePageBytes - Int(bitPattern: whole) & (hugePageBytes - 1)) & (hugePageBytes - 1)
    if before > 0 { munmap(whole, before) }
    if before < hugePageBytes { munmap(whole + before + bytes, hugePageBytes - before) }
    (address, count) = (whole + before, bytes)
    madvise(address, count, MADV_HUGEPAGE)
  }

  deinit { munmap(address, count) }

  private static func map(_ bytes: Int, _ protection: Int32, _ flags: Int32, _ descriptor: Int32, _ operation: String)
    throws(SystemError) -> UnsafeMutableRawPointer
  {
    guard let address = mmap(nil, bytes, protection, flags, descriptor, 0), address != MAP_FAILED else {
      throw SystemError(operation, errorNumber: errno)
    }
    // Guest memory and its checksums' key have no business in a core dump.
    madvise(address, bytes, MADV_DONTDUMP)
    return address
  }
}

/// A memfd of our own, close-on-exec and of a fixed size that costs nothing until it is written.
func makeMemoryFile(_ name: String, bytes: Int) throws(SystemError) -> Descriptor {
  let file = Descriptor(owning: try checked("memfd_create(\(name))") { memfd_create(name, UInt32(MFD_CLOEXEC)) })
  try checked("sizing the memfd \(name) to \(bytes) bytes") { ftruncate(file.raw, bytes) }
  return file
}

/// A memfd that begins with these bytes.
///
/// - Parameter count: its length; nil is theirs.
func makeMemoryFile(_ name: String, containing bytes: [UInt8], count: Int? = nil) throws(SystemError) -> Descriptor {
  let file = try makeMemoryFile(name, bytes: count ?? bytes.count)
  try writeAll(bytes, to: file.raw, operation: "writing the memfd \(name)")
  return file
}
