import Domain
import Glibc
import Testing

@testable import Adapters

/// A filesystem mounted for one test.
private final class Mount {
  let directory: TemporaryDirectory
  let path: String

  /// Memory, limited.
  init(temporaryBytes: String) throws {
    directory = try TemporaryDirectory()
    path = directory.path
    try #require(mount("none", path, "tmpfs", 0, "size=\(temporaryBytes)") == 0)
  }

  /// ext4 in a file. Without extents a large file needs more blocks than its own, so the free space does not suffice.
  init(loopMegabytes: Int, features: String = "^extent,^has_journal", options: String = "loop") throws {
    directory = try TemporaryDirectory()
    path = directory.path + "/mnt"
    try #require(mkdir(path, 0o700) == 0)
    let image = directory.path + "/image"
    let script =
      "truncate -s \(loopMegabytes)M \(image) && /usr/sbin/mkfs.ext2 -t ext4 -q -F -b 4096 -m 0 "
      + "-O \(features),^64bit,^metadata_csum,^resize_inode \(image) && mount -o \(options) \(image) \(path)"
    try #require(Self.run(script) == 0)
  }

  deinit {
    umount2(path, Int32(MNT_DETACH))
    rmdir(path)
  }

  private static func run(_ script: String) -> Int32 {
    var words: [UnsafeMutablePointer<CChar>?] = [strdup("sh"), strdup("-c"), strdup(script), nil]
    defer { for word in words { free(word) } }
    var variables: [UnsafeMutablePointer<CChar>?] = [strdup("PATH=/usr/sbin:/usr/bin:/sbin:/bin"), nil]
    defer { for variable in variables { free(variable) } }
    var pid = pid_t()
    guard posix_spawn(&pid, "/bin/sh", nil, nil, &words, &variables) == 0 else { return -1 }
    var status: Int32 = 0
    waitpid(pid, &status, 0)
    return status
  }
}

@Suite struct SwapFileStoreTests {
  private static let noFloor = FreeDiskFloor(bytes: 0)

  private final class Fixture {
    let staging: StagingArea
    let store: SwapFileStore
    let buffer: LockedBuffer

    init(
      _ directory: String, pageCount: Int = 64, floor: FreeDiskFloor = noFloor, budget: LockedMemory? = nil
    ) throws {
      let staging = StagingArea(pageCount: pageCount, geometry: Machinery.geometry, hasher: testHasher, budget: budget)
      try staging.create()
      for page in 0..<pageCount {
        try Self.content(page).withUnsafeBytes { try staging.write($0, at: PageIndex(page)) }
      }
      self.staging = staging
      store = try SwapFileStore(
        directory: directory, geometry: Machinery.geometry, staging: staging, floor: floor)
      buffer = try LockedBuffer(pages: 512, geometry: Machinery.geometry, hasher: testHasher)
    }

    static func content(_ page: Int) -> [UInt8] {
      var bytes = filled(UInt8(truncatingIfNeeded: page + 1))
      bytes[Machinery.pageBytes - 1] = UInt8(truncatingIfNeeded: page >> 8)
      return bytes
    }

    /// Whether a slot holds a page's content.
    func check(_ first: Int, holds expected: [Int]) throws {
      try store.read(slots(first, first + expected.count), into: buffer)
      for (index, page) in expected.enumerated() {
        let read = UnsafeRawBufferPointer(start: buffer.page(index), count: Machinery.pageBytes)
        #expect(read.elementsEqual(Self.content(page)), "slot \(first + index) does not hold page \(page)")
        #expect(buffer.checksum(at: index) == (try staging.checksum(of: PageIndex(page))))
      }
    }

    var file: Descriptor? { hidden("file", in: store, as: Descriptor.self) }
  }

  @Test("scattered pages go to consecutive slots, and come back", arguments: ["/tmp", "/dev/shm"])
  func roundTrip(directory: String) throws {
    let fixture = try Fixture(directory)
    let scattered = [5, 6, 7, 63, 0, 1, 20, 22, 21, 40]
    _ = try fixture.store.put(scattered.map { PageIndex($0) }, to: slots(3, 13))
    _ = try fixture.store.put([PageIndex(33)], to: slots(0, 1))
    try fixture.store.makeDurable()
    try fixture.check(3, holds: scattered)
    try fixture.check(0, holds: [33])
    try fixture.check(7, holds: [0, 1, 20])
    // A slot written anew holds the new page, its neighbours their own.
    _ = try fixture.store.put([PageIndex(50)], to: slots(4, 5))
    try fixture.check(3, holds: [5, 50, 7])
  }

  /// One huge page, and less: then they go through a small buffer.
  @Test("through any buffer the same pages go to the same slots", arguments: [0, 1])
  func buffered(buffers: Int) throws {
    let bytes = buffers * Machinery.geometry.bytes(inPages: Machinery.geometry.hugePagePages)
    let budget = LockedMemory(budget: PrefetchBudget(memoryLockLimitBytes: UInt64(bytes)))
    let fixture = try Fixture("/tmp", pageCount: 1030, budget: budget)
    let scattered = Array(stride(from: 5, to: 1029, by: 2))
    let checksums = try fixture.store.put(scattered.map { PageIndex($0) }, to: slots(1, 513))
    try fixture.check(1, holds: scattered)
    #expect(checksums == (try scattered.map { try fixture.staging.checksum(of: PageIndex($0)) }))
    // What the buffer held before is not written.
    _ = try fixture.store.put([PageIndex(8), PageIndex(2)], to: slots(2, 4))
    try fixture.check(1, holds: [5, 8, 2, 11])
    #expect(budget.take(1) == false)
    fixture.staging.buffers.releaseLarge()
    #expect(budget.take(bytes))
  }

  @Test("more runs than one system call takes", arguments: ["/tmp", "/dev/shm"])
  func manyRuns(directory: String) throws {
    let fixture = try Fixture(directory, pageCount: 2100)
    let scattered = Array(stride(from: 0, to: 2100, by: 2))
    _ = try fixture.store.put(scattered.map { PageIndex($0) }, to: slots(0, scattered.count))
    try fixture.store.makeDurable()
    try fixture.check(0, holds: Array(scattered[0..<512]))
    try fixture.check(scattered.count - 512, holds: Array(scattered.suffix(512)))
  }

  @Test("the file has no name, and no mode that lets anybody open it", arguments: ["/tmp", "/dev/shm"])
  func unnamed(base: String) throws {
    var template = Array("\(base)/swap-file-XXXXXX".utf8CString)
    try #require(mkdtemp(&template) != nil)
    let path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    defer { rmdir(path) }
    let fixture = try Fixture(path)
    _ = try fixture.store.put([PageIndex(0)], to: slots(0, 1))
    #expect(list(path).isEmpty)
    let file = try #require(fixture.file)
    let status = status(of: file)
    #expect(status.st_nlink == 0)
    #expect(status.st_mode & 0o7777 == 0)
    #expect(fcntl(file.raw, F_GETFD) & FD_CLOEXEC != 0)
    // O_EXCL: it can't be given a name later either.
    #expect(linkat(AT_FDCWD, "/proc/self/fd/\(file.raw)", AT_FDCWD, "\(path)/name", AT_SYMLINK_FOLLOW) == -1)
    #expect(list(path).isEmpty)
  }

  @Test("reading past the file's end is an error", arguments: ["/tmp", "/dev/shm"])
  func readPastEnd(directory: String) throws {
    let fixture = try Fixture(directory)
    let failure = PortFailure(.readSwapFile, errorNumber: EIO)
    #expect(throws: failure) { try fixture.store.read(slots(0, 1), into: fixture.buffer) }
    _ = try fixture.store.put((0..<4).map { PageIndex($0) }, to: slots(0, 4))
    #expect(throws: failure) { try fixture.store.read(slots(2, 6), into: fixture.buffer) }
    try fixture.check(2, holds: [2, 3])
    try fixture.store.truncate()
    #expect(throws: failure) { try fixture.store.read(slots(0, 1), into: fixture.buffer) }
    #expect(allocatedBytes(try #require(fixture.file)) == 0)
  }

  @Test("the floor of free space is kept")
  func floor() throws {
    let full = try Fixture("/dev/shm", floor: FreeDiskFloor(bytes: .max))
    let failure = PortFailure(.checkFreeDisk, errorNumber: ENOSPC)
    #expect(throws: failure) { try full.store.put([PageIndex(0)], to: slots(0, 1)) }
    #expect(status(of: try #require(full.file)).st_size == 0)
  }

  @Test("a small filesystem is filled to its floor and no further", .enabled(if: Machinery.isRoot))
  func smallFilesystem() throws {
    let mount = try Mount(temporaryBytes: "1m")
    let fixture = try Fixture(mount.path, pageCount: 300)
    let failure = PortFailure(.checkFreeDisk, errorNumber: ENOSPC)
    #expect(throws: failure) { try fixture.store.put((0..<257).map { PageIndex($0) }, to: slots(0, 257)) }
    _ = try fixture.store.put((0..<256).map { PageIndex($0) }, to: slots(0, 256))
    try fixture.check(0, holds: Array(0..<256))
    #expect(throws: failure) { try fixture.store.put([PageIndex(256)], to: slots(256, 257)) }
    // The usual floor is 5 % of it: 12.8 pages.
    try fixture.store.truncate()
    let usual = try Fixture(mount.path, pageCount: 300, floor: FreeDiskFloor(bytes: nil))
    #expect(throws: failure) { try usual.store.put((0..<244).map { PageIndex($0) }, to: slots(0, 244)) }
    _ = try usual.store.put((0..<243).map { PageIndex($0) }, to: slots(0, 243))
  }

  @Test(
    "a disk that is full in the middle of a write is an error, and what fits afterwards is written",
    .enabled(if: Machinery.hasLoopDevices))
  func fullDisk() throws {
    let mount = try Mount(loopMegabytes: 6)
    var space = statvfs()
    try #require(statvfs(mount.path, &space) == 0)
    let free = Int(space.f_bavail)
    try #require(free > 100 && free < 1600)
    let fixture = try Fixture(mount.path, pageCount: free)
    #expect(throws: PortFailure(.writeSwapFile, errorNumber: ENOSPC)) {
      _ = try fixture.store.put((0..<free).map { PageIndex($0) }, to: slots(0, free))
    }
    try fixture.store.truncate()
    _ = try fixture.store.put((0..<free / 2).map { PageIndex($0) }, to: slots(0, free / 2))
    try fixture.store.makeDurable()
    try fixture.check(0, holds: Array(0..<100))
  }

  @Test(
    "where space can't be taken beforehand, what is still to be written counts against the floor",
    .enabled(if: Machinery.hasLoopDevices))
  func promisedSpace() throws {
    let mount = try Mount(loopMegabytes: 16)
    var space = statvfs()
    try #require(statvfs(mount.path, &space) == 0)
    let free = Int(space.f_bavail) * Int(space.f_frsize)
    let floor = FreeDiskFloor(bytes: UInt64(free - 96 * Machinery.pageBytes))
    let fixture = try Fixture(mount.path, floor: floor)
    try fixture.store.allocate(slots(0, 64))
    #expect(throws: PortFailure(.checkFreeDisk, errorNumber: ENOSPC)) { try fixture.store.allocate(slots(64, 128)) }
    try fixture.store.allocate(slots(64, 80))
    // What was not written after all counts no more.
    try fixture.store.makeDurable()
    try fixture.store.allocate(slots(0, 64))
  }

  @Test(
    "a filesystem that takes O_DIRECT and writes through the page cache is synced, and keeps nothing cached",
    .enabled(if: Machinery.hasLoopDevices))
  func onlySeeminglyDirect() throws {
    let mount = try Mount(loopMegabytes: 16, features: "has_journal", options: "loop,data=journal")
    let fixture = try Fixture(mount.path)
    let file = try #require(fixture.file)
    #expect(fcntl(file.raw, F_GETFL) & O_DIRECT == 0, "who takes the file over goes by this")
    try fixture.store.allocate(slots(0, 64))
    _ = try fixture.store.write((0..<64).map { PageIndex($0) }, to: slots(0, 64))
    #expect(eventually { cachedPages(file, 64) == 64 })
    try fixture.store.makeDurable()
    #expect(cachedPages(file, 64) == 0)
    try fixture.check(0, holds: Array(0..<64))
  }

  @Test("where the disk is written past the page cache, nothing is ever cached")
  func direct() throws {
    let fixture = try Fixture("/tmp")
    let file = try #require(fixture.file)
    // (In memory, the cache is the file; such filesystems have no block device, whose major number would not be 0.)
    guard fcntl(file.raw, F_GETFL) & O_DIRECT != 0, status(of: file).st_dev >> 8 & 0xFFF != 0 else { return }
    _ = try fixture.store.put((0..<64).map { PageIndex($0) }, to: slots(0, 64))
    try fixture.check(0, holds: Array(0..<64))
    #expect(cachedPages(file, 64) == 0)
  }

  /// How many of a file's first pages are in the page cache.
  private func cachedPages(_ file: Descriptor, _ count: Int) -> Int {
    let bytes = count * Machinery.pageBytes
    guard let start = mmap(nil, bytes, PROT_READ, MAP_SHARED, file.raw, 0), start != MAP_FAILED else { return -1 }
    defer { munmap(start, bytes) }
    var flags = [UInt8](repeating: 0, count: count)
    return mincore(start, bytes, &flags) == 0 ? flags.count { $0 & 1 != 0 } : -1
  }

  @Test("its threads stay from one flush to the next, and end when it rests")
  func threads() throws {
    let fixture = try Fixture("/tmp")
    let pages = (0..<64).map { PageIndex($0) }
    // Threads take the number of who starts them: so these are told from those of other tests.
    let serial: UInt64 = 4711
    func writers() -> Int {
      list("/proc/self/task").count { readText("/proc/self/task/\($0)/comm")?.hasPrefix("\(serial) write") == true }
    }
    let store = fixture.store
    let first = try Thread(name: Thread.name("test", of: serial)) { _ = try? store.put(pages, to: slots(0, 64)) }
    first.join()
    #expect(eventually { writers() == 2 })
    _ = try store.put(pages, to: slots(0, 64))
    #expect(eventually { writers() == 2 })
    store.rest()
    #expect(eventually { writers() == 0 }, "the entry of a thread that has ended lives on for an instant")
    _ = try store.put(pages, to: slots(64, 128))
    try fixture.check(64, holds: Array(0..<64))
    try fixture.check(0, holds: Array(0..<64))
  }

  @Test("a directory that is not there, or is none, is an error with its name")
  func noDirectory() throws {
    for path in ["/nowhere/at/all", "/dev/null"] {
      let failure = #expect(throws: SystemError.self) { try SwapFileStore.probe(path) }
      #expect(failure?.description.contains(path) == true)
    }
    try SwapFileStore.probe("/dev/shm")
    // /proc can't hold files at all, whatever way they are made.
    #expect(throws: SystemError.self) { try SwapFileStore.probe("/proc") }
  }
}

extension SwapFileStore {
  /// The whole way.
  func put(_ pages: [PageIndex], to slots: SlotRange) throws -> [PageChecksum] {
    try allocate(slots)
    let checksums = try write(pages, to: slots)
    try makeDurable()
    return checksums
  }
}
