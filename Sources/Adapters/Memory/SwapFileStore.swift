package import Domain
internal import Glibc
internal import Synchronization

/// A tenant's swap file: unnamed, so that no name clashes, nobody else can open it, and the kernel deletes it with its last
/// holder. Written and read past the page cache (O_DIRECT) where the filesystem can; else synced and dropped from it.
package final class SwapFileStore: SwapFile, @unchecked Sendable {
  // pread and pwrite are safe from any thread
  package let file: Descriptor
  private let geometry: PageGeometry
  private let staging: StagingArea
  private let floor: FreeDiskFloor
  private let account: PageAccount
  private let isDirect: DirectFlag
  /// Bytes that are to be written, and for which no space could be taken beforehand.
  private let promised = Guarded(0)
  private let behind: WriteBehind

  /// - Parameters:
  ///   - slots: how many the file may come to have.
  ///   - limit: of all tenants' swap files.
  package convenience init(
    directory: String, geometry: PageGeometry, staging: StagingArea, floor: FreeDiskFloor, slots: Int = 0,
    limit: SharedPageLimit? = nil
  ) throws(SystemError) {
    let (file, isDirect) = try Self.create(in: directory)
    self.init(file, isDirect, geometry, staging, floor, PageAccount(capacity: slots, limit: limit))
  }

  /// Takes over what an earlier worker has left.
  package convenience init(
    adopting file: Descriptor, geometry: PageGeometry, staging: StagingArea, floor: FreeDiskFloor, slots: Int = 0,
    limit: SharedPageLimit? = nil
  ) {
    let account = PageAccount(capacity: slots, limit: limit)
    account.adopt(file, geometry)
    self.init(file, fcntl(file.raw, F_GETFL) & O_DIRECT != 0, geometry, staging, floor, account)
  }

  private init(
    _ file: Descriptor, _ isDirect: Bool, _ geometry: PageGeometry, _ staging: StagingArea, _ floor: FreeDiskFloor,
    _ account: PageAccount
  ) {
    (self.file, self.geometry, self.staging, self.floor, self.account) = (file, geometry, staging, floor, account)
    let flag = DirectFlag(isDirect)
    self.isDirect = flag
    behind = WriteBehind(buffers: staging.buffers) { (bytes, offset) throws(PortFailure) in
      try Self.write(bytes, at: offset, of: file, flag, geometry)
    }
  }

  /// Whether swap files can be made in a directory.
  package static func probe(_ directory: String) throws(SystemError) { _ = try create(in: directory) }

  /// A filesystem lets nobody else write to a file while it looks for space for it (ext4, measured: two who write to fresh
  /// places of one file, with work of their own in between, get 1.1 GiB/s; where the space is there already, 1.8).
  package func allocate(_ slots: SlotRange) throws(PortFailure) {
    let bytes = geometry.bytes(inPages: slots.count)
    try floor.check(file, before: bytes + promised.withLock { $0 })
    // What fails is freed by the ledger, and counts until its space has been given back.
    guard account.add(numbers(slots)) else { throw PortFailure(.limitAllSwapFiles, errorNumber: ENOSPC) }
    let (result, errorNumber) = retryingInterrupts {
      fallocate(file.raw, 0, geometry.bytes(inPages: slots.lowerBound.rawValue), bytes)
    }
    if result != 0, errorNumber == ENOSPC { throw PortFailure(.writeSwapFile, errorNumber: errorNumber) }
    // A filesystem that can't takes the space with each write.
    if result != 0 { promised.withLock { $0 += bytes } }
  }

  package func write(_ pages: [PageIndex], to slots: SlotRange) throws(PortFailure) -> [PageChecksum] {
    var checksums: [PageChecksum] = []
    checksums.reserveCapacity(pages.count)
    while checksums.count < pages.count {
      let left = pages[checksums.count...]
      let offset = geometry.bytes(inPages: slots.lowerBound.rawValue + checksums.count)
      _ = try behind.write(pages: left.count, at: offset) { (buffer) throws(PortFailure) in
        let part = left.prefix(buffer.capacityPages)
        checksums += try staging.gather(part, into: buffer.address)
        return part.count
      }
    }
    return checksums
  }

  private static func write(
    _ bytes: UnsafeRawBufferPointer, at offset: Int, of file: Descriptor, _ isDirect: DirectFlag,
    _ geometry: PageGeometry
  ) throws(PortFailure) {
    var done = 0
    while done < bytes.count {
      let wasDirect = isDirect.isSet
      let (count, errorNumber) = retryingInterrupts {
        pwrite(file.raw, bytes.baseAddress! + done, bytes.count - done, offset + done)
      }
      if count < 0 && errorNumber == EINVAL && wasDirect {
        // The filesystem takes the flag and not the write: through the page cache then.
        try isDirect.clear(of: file)
        continue
      }
      if count <= 0 { throw PortFailure(.writeSwapFile, errorNumber: count == 0 ? EIO : errorNumber) }
      // Direct I/O goes on from a page bound only; what is written twice is the same.
      done = done + count == bytes.count ? bytes.count : (done + count) & ~(geometry.pageBytes - 1)
      if count < geometry.pageBytes && done < bytes.count {
        throw PortFailure(.writeSwapFile, errorNumber: ENOSPC)
      }
    }
  }

  package func makeDurable() throws(PortFailure) {
    defer { promised.withLock { $0 = 0 } }
    try behind.finish()
    guard !isDirect.isSet else { return }
    let (result, errorNumber) = retryingInterrupts { fdatasync(file.raw) }
    if result != 0 { throw PortFailure(.flushSwapFile, errorNumber: errorNumber) }
    posix_fadvise(file.raw, 0, 0, POSIX_FADV_DONTNEED)
  }

  /// Ends the threads that write; the next write starts them anew.
  package func rest() { behind.rest() }

  package func read(_ slots: SlotRange, into buffer: LockedBuffer) throws(PortFailure) {
    let bytes = UnsafeMutableRawBufferPointer(start: buffer.address, count: geometry.bytes(inPages: slots.count))
    let offset = geometry.bytes(inPages: slots.lowerBound.rawValue)
    try readAll(file, bytes, at: offset, operation: .readSwapFile)
    if !isDirect.isSet { posix_fadvise(file.raw, offset, bytes.count, POSIX_FADV_DONTNEED) }
  }

  package func punch(_ slots: SlotRange) throws(PortFailure) {
    do throws(PortFailure) {
      try punchHole(
        file, offset: geometry.bytes(inPages: slots.lowerBound.rawValue), bytes: geometry.bytes(inPages: slots.count),
        operation: .punchSwapFile)
    } catch {
      // A filesystem that can't: the space comes back when the file is emptied.
      if error.errorNumber != EOPNOTSUPP { throw error }
    }
    account.remove(numbers(slots))
  }

  package func truncate() throws(PortFailure) {
    let (result, errorNumber) = retryingInterrupts { ftruncate(file.raw, 0) }
    if result != 0 { throw PortFailure(.truncateSwapFile, errorNumber: errorNumber) }
    account.removeAll()
  }

  private func numbers(_ slots: SlotRange) -> Range<Int> { slots.lowerBound.rawValue..<slots.upperBound.rawValue }

  static func create(in directory: String) throws(SystemError) -> (Descriptor, isDirect: Bool) {
    let call = PrivilegedCall(.makeSwapFile, text: directory)
    let answer = try Privileges.perform(call, operation: "making a swap file in \(directory)")
    guard let file = answer.descriptor else { throw SystemError("making a swap file", errorNumber: EPROTO) }
    return (file, answer.number == 1)
  }

  static func createHere(in directory: String) throws(SystemError) -> (Descriptor, isDirect: Bool) {
    for (flags, isDirect) in [(O_DIRECT, true), (0, false)] {
      let raw = open(directory, O_TMPFILE | O_EXCL | O_RDWR | O_CLOEXEC | flags, 0)
      if raw >= 0 {
        let file = Descriptor(owning: raw)
        if !isDirect || isDirectIndeed(file) { return (file, isDirect) }
        continue
      }
      guard errno == EINVAL || errno == EOPNOTSUPP || errno == EISDIR else {
        throw SystemError("making a swap file in \(directory)", errorNumber: errno)
      }
    }
    return (try createNamed(in: directory), false)
  }

  /// A filesystem may take O_DIRECT, and write through the page cache all the same (ext4 with data=journal, or encrypted), so
  /// that a completed write is not durable. Where it can say how direct I/O must be aligned, it says 0 then.
  private static func isDirectIndeed(_ file: Descriptor) -> Bool {
    let (bytesOfStatus, alignmentField) = (256, 156)  // struct statx of <linux/stat.h>, and its stx_dio_offset_align
    var path: CChar = 0
    return withUnsafeTemporaryAllocation(byteCount: bytesOfStatus, alignment: 8) { status in
      // Safety: the kernel reads an empty string, and writes one struct statx.
      let result = withUnsafePointer(to: &path) {
        c_syscall(
          Linux.SYS_statx, Int(file.raw), Int(bitPattern: $0), Linux.AT_EMPTY_PATH, Linux.STATX_DIOALIGN,
          Int(bitPattern: status.baseAddress))
      }
      guard result == 0, status.load(as: UInt32.self) & UInt32(Linux.STATX_DIOALIGN) != 0 else { return true }
      return status.load(fromByteOffset: alignmentField, as: UInt32.self) != 0
    }
  }

  /// Where the filesystem has no O_TMPFILE: a random name that exists for an instant.
  private static func createNamed(in directory: String) throws(SystemError) -> Descriptor {
    let path = "\(directory)/.swap-monitor-\(String(UInt64.random(in: 0...UInt64.max), radix: 36))"
    let raw = try checked("making a swap file in \(directory)") {
      open(path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0o600)
    }
    let file = Descriptor(owning: raw)
    try checked("unlinking \(path)") { unlink(path) }
    fchmod(file.raw, 0)
    return file
  }
}

/// How much of the filesystem is left to others: writing to swap files ends before less is free.
package struct FreeDiskFloor: Sendable {
  /// nil: 2 GiB or 5 % of the filesystem, the smaller.
  package let bytes: UInt64?

  package init(bytes: UInt64?) { self.bytes = bytes }

  func check(_ file: Descriptor, before needed: Int) throws(PortFailure) {
    var status = statvfs()
    let (result, errorNumber) = retryingInterrupts { fstatvfs(file.raw, &status) }
    if result != 0 { throw PortFailure(.checkFreeDisk, errorNumber: errorNumber) }
    let unit = UInt64(status.f_frsize)
    let floor = bytes ?? min(2 << 30, UInt64(status.f_blocks) * unit / 20)
    let available = UInt64(status.f_bavail) * unit
    if available < floor || available - floor < UInt64(needed) {
      throw PortFailure(.checkFreeDisk, errorNumber: ENOSPC)
    }
  }
}

/// Whether a file is written and read past the page cache; shared by its threads. Only ever cleared.
private final class DirectFlag: Sendable {
  private let flag: Atomic<Bool>

  init(_ isSet: Bool) { flag = Atomic(isSet) }

  var isSet: Bool { flag.load(ordering: .acquiring) }

  func clear(of file: Descriptor) throws(PortFailure) {
    if fcntl(file.raw, F_SETFL, fcntl(file.raw, F_GETFL) & ~O_DIRECT) != 0 {
      throw PortFailure(.writeSwapFile, errorNumber: errno)
    }
    // Last: who sees it must not meet the flag any more.
    flag.store(false, ordering: .releasing)
  }
}
