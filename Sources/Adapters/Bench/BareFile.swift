internal import Glibc

/// An unnamed file for bare reads and writes.
package final class BareFile: Sendable {
  private let file: Descriptor
  private let isDirect: Bool
  var raw: Int32 { file.raw }

  /// - Parameter isDirect: past the page cache, where the filesystem can.
  package init(in directory: String, isDirect: Bool) throws(SystemError) {
    let (file, canBeDirect) = try SwapFileStore.create(in: directory)
    if canBeDirect && !isDirect { _ = fcntl(file.raw, F_SETFL, fcntl(file.raw, F_GETFL) & ~O_DIRECT) }
    self.file = file
    self.isDirect = isDirect && canBeDirect
  }

  /// Takes the disk space for so many bytes, where the filesystem can.
  func allocate(_ bytes: Int) throws(SystemError) {
    if fallocate(file.raw, 0, 0, bytes) != 0, errno != EOPNOTSUPP {
      throw SystemError("taking space for a file", errorNumber: errno)
    }
  }

  /// After this, what was written is on the disk, and the page cache holds none of it.
  package func settle() throws(SystemError) {
    guard !isDirect else { return }
    try checked("fdatasync") { fdatasync(file.raw) }
    posix_fadvise(file.raw, 0, 0, POSIX_FADV_DONTNEED)
  }

  /// Reads random pages, one at a time.
  ///
  /// - Returns: how long each took, in nanoseconds.
  package func randomReads(_ count: Int, pageBytes: Int, pages: Int) throws(SystemError) -> [UInt64] {
    let buffer = try MemoryMapping(anonymousBytes: pageBytes, operation: "mapping a buffer")
    let clock = SystemClock()
    return try (0..<count).map { number throws(SystemError) in
      let page = Int(SplitMix.mix(UInt64(number)) % UInt64(pages))
      let start = clock.nowNanoseconds
      try checked("pread") { pread(file.raw, buffer.address, pageBytes, page * pageBytes) }
      return clock.nowNanoseconds - start
    }
  }
}
