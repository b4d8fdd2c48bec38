package import Domain
internal import Glibc
internal import Synchronization

/// A tenant's memory without books, locks and checks: bare loops over it, in one thread or more, that show what this machine
/// can do at best.
package final class BareMemory: @unchecked Sendable {  // threads work on ranges of their own
  /// How pages are copied out of the guest.
  package enum Way: String, CaseIterable, Sendable {
    case pwrite, memcpy
    case buffer = "pread+pwrite"
  }

  package let pageCount: Int
  let geometry: PageGeometry
  let userfaultfd: Descriptor
  private let guest: Descriptor
  private let address: UInt64
  private var staging: (file: Descriptor, mapping: MemoryMapping)
  private var windowPages: Int { geometry.hugePagePages }
  private var bytes: Int { geometry.bytes(inPages: pageCount) }

  /// - Parameters:
  ///   - userfaultfd: one that the process has made and not used, by its number there.
  ///   - memory: the guest memory's memfd, by its number there.
  ///   - address: where the process maps it.
  package init(
    of process: ProcessHandle, userfaultfd: Int, memory: Int, address: UInt64, pageCount: Int, geometry: PageGeometry
  ) throws(SystemError) {
    let raw = try checked("taking the tenant's userfaultfd") {
      c_syscall(Linux.SYS_pidfd_getfd, Int(process.descriptor.raw), userfaultfd, 0, 0, 0)
    }
    self.userfaultfd = Descriptor(owning: Int32(raw))
    guest = Descriptor(
      owning: try checked("opening the tenant's memory") {
        open("/proc/\(process.pid)/fd/\(memory)", O_RDWR | O_CLOEXEC)
      }
    )
    let bytes = geometry.bytes(inPages: pageCount)
    staging = try Self.makeStaging(bytes)
    self.address = address
    self.pageCount = pageCount
    self.geometry = geometry
    var request = uffdio_api(api: UFFD.API, features: 0)
    let control = self.userfaultfd.raw
    _ = try checked("UFFDIO_API") { ioctl(control, UFFD.UFFDIO_API, &request) }
  }

  private static func makeStaging(_ bytes: Int) throws(SystemError) -> (Descriptor, MemoryMapping) {
    let file = try makeMemoryFile("swap-monitor-bench", bytes: bytes)
    return (file, try MemoryMapping(of: file, bytes: bytes, writable: true, operation: "mapping staging"))
  }

  // MARK: Registering

  /// Faults wait for somebody to serve them meanwhile.
  package func registered<Result, Failure: Error>(_ body: () throws(Failure) -> Result) throws -> Result {
    var request = uffdio_register(range: everything, mode: UFFD.REGISTER_MODE_MISSING)
    _ = try checked("UFFDIO_REGISTER") { ioctl(userfaultfd.raw, UFFD.UFFDIO_REGISTER, &request) }
    let result = try body()
    var range = everything
    _ = try checked("UFFDIO_UNREGISTER") { ioctl(userfaultfd.raw, UFFD.UFFDIO_UNREGISTER, &range) }
    return result
  }

  private var everything: uffdio_range { uffdio_range(start: address, len: UInt64(bytes)) }

  // MARK: Out

  /// Moves everything resident into fresh staging memory.
  package func moveOut(_ way: Way, threads: Int) throws(SystemError) -> Cost {
    staging = try Self.makeStaging(bytes)
    // Mapped no longer than that: the daemon would warn of it.
    let mapping = try MemoryMapping(of: guest, bytes: bytes, writable: false, operation: "mapping the tenant's memory")
    return try measured(threads) { [self] (window, buffer) throws(SystemError) in
      let (offset, count) = place(window)
      switch way {
      case .pwrite:
        try whole("pwrite", count) { pwrite(staging.file.raw, mapping.address + offset, count, offset) }
      case .memcpy: memcpy(staging.mapping.address + offset, mapping.address + offset, count)
      case .buffer:
        for part in stride(from: offset, to: offset + count, by: Self.cachedBytes) {
          let size = min(Self.cachedBytes, offset + count - part)
          try whole("pread", size) { pread(guest.raw, buffer, size, part) }
          try whole("pwrite", size) { pwrite(staging.file.raw, buffer, size, part) }
        }
      }
      try punch(guest, window)
    }
  }

  /// What stays in the second-level cache.
  private static let cachedBytes = 256 << 10

  /// Drops everything resident.
  package func punchGuest() throws(SystemError) {
    _ = try measured(1) { [self] (window, _) throws(SystemError) in try punch(guest, window) }
  }

  /// Fills staging memory with what can't be compressed.
  package func fillStaging() throws(SystemError) {
    staging = try Self.makeStaging(bytes)
    _ = try measured(2) { [self] (window, buffer) throws(SystemError) in
      let (offset, count) = place(window)
      try whole("pwrite", count) { pwrite(staging.file.raw, buffer, count, offset) }
    }
  }

  // MARK: Dropping

  /// Finds zero pages in staging memory, and punches each run of them.
  package func dropZeros(threads: Int) throws(SystemError) -> Cost {
    try drop(threads) { [self] page in isZeroPage(staged(page), geometry) }
  }

  /// Computes the checksum of each page that is not zero, and punches what is zero or "unchanged".
  package func dropUnchanged(
    threads: Int, _ isUnchanged: @escaping @Sendable (Int) -> Bool
  ) throws(SystemError) -> Cost {
    let key = Machine.randomWords(PageHasher.keyWords(pageBytes: geometry.pageBytes))
    let hasher = PageHasher(pageBytes: geometry.pageBytes, key: key)
    return try drop(threads) { [self] page in
      if isZeroPage(staged(page), geometry) { return true }
      let checksum = pageChecksum(staged(page), geometry, hasher)
      return isUnchanged(page) && checksum.low != 0
    }
  }

  /// Punches so many pages of full staging memory.
  package func drop(pages: Int, threads: Int) throws(SystemError) -> Cost {
    try measured(threads, pages: pages) { [self] (window, _) throws(SystemError) in try punch(staging.file, window) }
  }

  private func drop(_ threads: Int, _ mustGo: @escaping @Sendable (Int) -> Bool) throws(SystemError) -> Cost {
    try measured(threads) { [self] (window, _) throws(SystemError) in
      for run in Self.runs(of: window, where: mustGo) { try punch(staging.file, run) }
    }
  }

  // MARK: Back

  /// Copies pages back from staging memory, and gives that back.
  package func copyBack(threads: Int, _ isPresent: @escaping @Sendable (Int) -> Bool) throws(SystemError) -> Cost {
    try measured(threads) { [self] (window, _) throws(SystemError) in
      for run in Self.runs(of: window, where: isPresent) { try copy(run, from: staged(run.lowerBound)) }
      try punch(staging.file, window)
    }
  }

  /// Fills pages from a buffer that is in the processor's cache, or was just read into.
  package func copyIn(threads: Int, _ isPresent: @escaping @Sendable (Int) -> Bool) throws(SystemError) -> Cost {
    try measured(threads) { [self] (window, buffer) throws(SystemError) in
      for run in Self.runs(of: window, where: isPresent) { try copy(run, from: buffer) }
    }
  }

  func copy(_ run: Range<Int>, from source: UnsafeMutableRawPointer) throws(SystemError) {
    var request = uffdio_copy(
      dst: address + UInt64(geometry.bytes(inPages: run.lowerBound)), src: UInt64(UInt(bitPattern: source)),
      len: UInt64(geometry.bytes(inPages: run.count)))
    _ = try checked("UFFDIO_COPY") { ioctl(userfaultfd.raw, UFFD.UFFDIO_COPY, &request) }
  }

  func staged(atAddress fault: UInt64) -> (page: Int, source: UnsafeMutableRawPointer) {
    let page = geometry.pages(inBytes: fault - address)
    return (page, staged(page))
  }

  // MARK: The disk

  package struct Writing: OptionSet, Sendable {
    package let rawValue: Int
    package init(rawValue: Int) { self.rawValue = rawValue }
    /// In a huge page first, of which a disk makes less work than of many small ones.
    package static let gathers = Self(rawValue: 1)
    /// The file is given all of its space at once.
    package static let allocates = Self(rawValue: 2)
  }

  /// Writes staged pages one behind the other, and gives their memory back.
  package func write(
    to file: BareFile, threads: Int, _ writing: Writing, _ isPresent: @escaping @Sendable (Int) -> Bool
  ) throws(SystemError) -> Cost {
    var starts = [0]
    for first in stride(from: 0, to: pageCount, by: windowPages) {
      starts.append(starts[starts.count - 1] + (first..<min(first + windowPages, pageCount)).count(where: isPresent))
    }
    let offsets = starts
    return try Cost.measure { () throws(SystemError) in
      if writing.contains(.allocates) { try file.allocate(geometry.bytes(inPages: offsets[offsets.count - 1])) }
      _ = try measured(threads) { [self] (window, buffer) throws(SystemError) in
        var vectors = Self.runs(of: window, where: isPresent).map {
          iovec(iov_base: staged($0.lowerBound), iov_len: geometry.bytes(inPages: $0.count))
        }
        let first = offsets[window.lowerBound / windowPages]
        let bytes = vectors.reduce(0) { $0 + $1.iov_len }
        if writing.contains(.gathers) {
          var place = buffer
          for vector in vectors {
            memcpy(place, vector.iov_base, vector.iov_len)
            place += vector.iov_len
          }
          vectors = [iovec(iov_base: buffer, iov_len: bytes)]
        }
        try whole("pwritev", bytes) {
          pwritev(file.raw, vectors, Int32(vectors.count), geometry.bytes(inPages: first))
        }
        try punch(staging.file, window)
      }
      try file.settle()
    }
  }

  /// Reads so many pages of a file from its beginning, and gives its disk space back.
  package func read(_ file: BareFile, pages: Int, threads: Int) throws(SystemError) -> Cost {
    try Cost.measure { () throws(SystemError) in
      _ = try measured(threads, pages: pages) { [self] (window, buffer) throws(SystemError) in
        let (offset, count) = place(window)
        try whole("pread", count) { pread(file.raw, buffer, count, offset) }
      }
      try checked("emptying the file") { ftruncate(file.raw, 0) }
    }
  }

  // MARK: Inside

  private func staged(_ page: Int) -> UnsafeMutableRawPointer {
    staging.mapping.address + geometry.bytes(inPages: page)
  }

  private func place(_ pages: Range<Int>) -> (offset: Int, count: Int) {
    (geometry.bytes(inPages: pages.lowerBound), geometry.bytes(inPages: pages.count))
  }

  private func punch(_ file: Descriptor, _ pages: Range<Int>) throws(SystemError) {
    let (offset, count) = place(pages)
    try checked("punching") { fallocate(file.raw, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, count) }
  }

  private func whole(_ operation: String, _ count: Int, _ call: () -> Int) throws(SystemError) {
    let done = try checked(operation, call)
    if done != count { throw SystemError("\(operation) of \(count) bytes, cut at \(done)", errorNumber: EIO) }
  }

  private static func runs(of window: Range<Int>, where isMember: (Int) -> Bool) -> [Range<Int>] {
    var runs: [Range<Int>] = []
    var start: Int?
    for page in window {
      let isIn = isMember(page)
      if isIn, start == nil { start = page }
      if !isIn, let first = start {
        runs.append(first..<page)
        start = nil
      }
    }
    if let start { runs.append(start..<window.upperBound) }
    return runs
  }

  private typealias Body =
    @Sendable (_ window: Range<Int>, _ buffer: UnsafeMutableRawPointer) throws(SystemError) -> Void

  /// Has a body work on every huge page's worth of pages, each thread on its share of them, with a buffer of its own.
  private func measured(_ threads: Int, pages: Int? = nil, _ body: @escaping Body) throws(SystemError) -> Cost {
    let (pages, windowPages) = (pages ?? pageCount, windowPages)
    let windows = (pages + windowPages - 1) / windowPages
    let failures = Failures()
    let buffers = try (0..<threads).map { _ throws(SystemError) in
      let bytes = geometry.bytes(inPages: windowPages)
      return try MemoryMapping(anonymousBytes: bytes, inPagesOf: bytes, operation: "mapping a buffer")
    }
    for buffer in buffers { fillRandomly(buffer) }
    return try Cost.measure { () throws(SystemError) in
      let running = try (0..<threads).map { number throws(SystemError) in
        try Thread(name: "bench") {
          do throws(SystemError) {
            for window in windows * number / threads..<windows * (number + 1) / threads {
              let first = window * windowPages
              try body(first..<min(first + windowPages, pages), buffers[number].address)
            }
          } catch { failures.first.withLock { $0 = $0 ?? error } }
        }
      }
      for thread in running { thread.join() }
      if let failure = failures.first.withLock({ $0 }) { throw failure }
    }
  }

  private final class Failures: Sendable {
    let first = Mutex<SystemError?>(nil)
  }

  private func fillRandomly(_ buffer: MemoryMapping) {
    // Safety: the mapping is page aligned and so many words long.
    let words = buffer.address.assumingMemoryBound(to: UInt64.self)
    for index in 0..<(buffer.count / 8) { words[index] = SplitMix.mix(UInt64(index)) }
  }
}
