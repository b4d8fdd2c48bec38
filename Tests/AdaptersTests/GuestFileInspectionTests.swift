@testable import Adapters
import Domain
import Glibc
import Testing

@Suite struct GuestFileInspectionTests {
  private static func refusal(_ file: Descriptor, number: Int = 3) -> String? {
    do throws(GuestFileInspection.Refusal) {
      _ = try GuestFileInspection.inspect(file, number: number, geometry: Machinery.geometry)
      return nil
    } catch { return error.message }
  }

  private static func make(seals: Int32, flags: UInt32 = 0) throws -> Descriptor {
    let raw = memfd_create("inspected", UInt32(MFD_CLOEXEC) | UInt32(MFD_ALLOW_SEALING) | flags)
    try #require(raw >= 0)
    let file = Descriptor(owning: raw)
    try #require(ftruncate(raw, 4 << 20) == 0)
    try #require(seals == 0 || fcntl(raw, F_ADD_SEALS, seals) == 0)
    return file
  }

  private static func reopen(_ file: Descriptor, _ flags: Int32) throws -> Descriptor {
    let raw = open("/proc/self/fd/\(file.raw)", flags | O_CLOEXEC)
    try #require(raw >= 0)
    return Descriptor(owning: raw)
  }

  @Test(
    "a memfd that can't shrink and can be written is right, whatever other seals it has",
    arguments: [F_SEAL_SHRINK, F_SEAL_SHRINK | F_SEAL_GROW, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL])
  func accepted(seals: Int32) throws {
    let file = try Self.make(seals: seals)
    let judged = try GuestFileInspection.inspect(file, number: 0, geometry: Machinery.geometry)
    #expect(judged.size == 4 << 20)
    let again = try GuestFileInspection.inspect(
      try Self.reopen(file, O_RDWR), number: 1, geometry: Machinery.geometry)
    #expect(again.identity == judged.identity)
    let other = try GuestFileInspection.inspect(
      try Self.make(seals: seals), number: 1, geometry: Machinery.geometry)
    #expect(other.identity != judged.identity)
  }

  @Test("a memfd that can shrink is refused: its readers could be killed")
  func unsealed() throws {
    #expect(Self.refusal(try Self.make(seals: 0))?.hasPrefix("memfd 3 is not sealed against shrinking") == true)
    #expect(Self.refusal(try Self.make(seals: F_SEAL_GROW))?.contains("F_SEAL_SHRINK") == true)
  }

  @Test("a memfd that can't be written, now or later, is refused: it can't be punched", arguments: [F_SEAL_WRITE, 0x10])
  func writeSealed(seal: Int32) throws {
    let file = try Self.make(seals: F_SEAL_SHRINK | seal)
    #expect(Self.refusal(file, number: 0)?.hasPrefix("memfd 0 is sealed against writing") == true)
    // The reason holds: punching is EPERM.
    #expect(fallocate(file.raw, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) == -1)
    #expect(errno == EPERM)
  }

  @Test("a descriptor that can't read and write is refused", arguments: [O_RDONLY, O_WRONLY, O_PATH])
  func accessModes(flags: Int32) throws {
    let file = try Self.reopen(try Self.make(seals: F_SEAL_SHRINK), flags)
    #expect(Self.refusal(file) == "memfd 3 is not open for reading and writing")
  }

  @Test("what is no memfd is refused")
  func otherFiles() throws {
    let notOne = "memfd 3 is not a memfd; send what memfd_create(2) gave"
    var ends: [Int32] = [0, 0]
    try #require(pipe2(&ends, O_CLOEXEC) == 0)
    let pipe = (Descriptor(owning: ends[0]), Descriptor(owning: ends[1]))
    #expect(Self.refusal(pipe.0) == notOne && Self.refusal(pipe.1) == notOne)
    #expect(Self.refusal(try WakeUp().descriptor) == notOne)
    #expect(Self.refusal(Descriptor(owning: open("/dev/zero", O_RDWR | O_CLOEXEC))) == notOne)
    #expect(Self.refusal(Descriptor(owning: open("/tmp", O_RDONLY | O_CLOEXEC))) == notOne)
    let onDisk = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0o600)
    try #require(onDisk >= 0)
    #expect(Self.refusal(Descriptor(owning: onDisk)) == notOne)
    // A file of a tmpfs knows of seals, and has the one against further seals.
    let onTmpfs = open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0o600)
    try #require(onTmpfs >= 0)
    #expect(Self.refusal(Descriptor(owning: onTmpfs))?.contains("is not sealed against shrinking") == true)
  }

  @Test("a hugetlb memfd is refused, with its page size", .enabled(if: Machinery.hasHugeMemfds))
  func huge() throws {
    let file = try Self.make(seals: F_SEAL_SHRINK, flags: UInt32(MFD_HUGETLB))
    let message = try #require(Self.refusal(file))
    #expect(message.contains("has huge pages of 2097152 bytes") && message.contains("MFD_HUGETLB"))
  }
}

@Suite struct ProcessMapsTests {
  private static let pageBytes = UInt64(Machinery.pageBytes)

  @Test("mappings of our own are found, and only as they are")
  func map() throws {
    let file = try makeGuestFile(pages: 16)
    let other = try makeGuestFile(pages: 16)
    let identity = try GuestFileInspection.inspect(file, number: 0, geometry: Machinery.geometry).identity
    let otherIdentity = try GuestFileInspection.inspect(other, number: 0, geometry: Machinery.geometry).identity
    let place = try #require(mmap(nil, 16 * Machinery.pageBytes, PROT_NONE, MAP_PRIVATE | Int32(MAP_ANONYMOUS), -1, 0))
    defer { munmap(place, 16 * Machinery.pageBytes) }
    func lay(_ descriptor: Descriptor, _ pages: Range<Int>, filePage: Int, _ flags: Int32 = MAP_SHARED) {
      let address = mmap(
        place + pages.lowerBound * Machinery.pageBytes, pages.count * Machinery.pageBytes, PROT_READ | PROT_WRITE,
        flags | MAP_FIXED, descriptor.raw, filePage * Machinery.pageBytes)
      #expect(address != MAP_FAILED)
    }
    // Pages 0-3 and 4-5 are file pages 2-7 in two mappings; 6-7 jump to 10; 8-9 are private; 10-11 nothing; 12-13 another's.
    lay(file, 0..<4, filePage: 2)
    lay(file, 4..<6, filePage: 6)
    try #require(mprotect(place + 4 * Machinery.pageBytes, Machinery.pageBytes, PROT_READ) == 0)
    lay(file, 6..<8, filePage: 10)
    lay(file, 8..<10, filePage: 12, MAP_PRIVATE)
    lay(other, 12..<14, filePage: 2)
    let maps = try #require(ProcessMaps(pid: getpid()))
    let start = UInt64(UInt(bitPattern: place))
    func isMapped(_ pages: Range<UInt64>, filePage: UInt64, _ identity: FileIdentity) -> Bool {
      maps.map(
        identity, offset: filePage * Self.pageBytes, at: start + pages.lowerBound * Self.pageBytes,
        bytes: UInt64(pages.count) * Self.pageBytes)
    }
    #expect(isMapped(0..<6, filePage: 2, identity))
    #expect(isMapped(1..<5, filePage: 3, identity))
    #expect(isMapped(6..<8, filePage: 10, identity))
    #expect(isMapped(12..<14, filePage: 2, otherIdentity))
    #expect(!isMapped(0..<6, filePage: 3, identity))
    #expect(!isMapped(0..<7, filePage: 2, identity))
    #expect(!isMapped(8..<10, filePage: 12, identity))
    #expect(!isMapped(6..<9, filePage: 10, identity))
    #expect(!isMapped(10..<12, filePage: 14, identity))
    #expect(!isMapped(12..<14, filePage: 2, identity))
    #expect(!isMapped(13..<15, filePage: 3, otherIdentity))
    #expect(!isMapped(0..<6, filePage: 2, FileIdentity(device: identity.device + 1, inode: identity.inode)))
  }

  @Test("another process's mappings, and none of a dead one's")
  func others() throws {
    let child = try Child { inside in
      inside.tell(1)
      inside.waitForEver()
    }
    try #require(child.hear() == 1)
    #expect(try #require(ProcessMaps(pid: child.pid)).mappings.count > 5)
    #expect(child.end(signal: SIGKILL) == .signal(SIGKILL))
    #expect(ProcessMaps(pid: child.pid)?.mappings == nil)
  }

  @Test("everything that /proc says of ourselves is understood")
  func parsing() throws {
    let maps = try #require(ProcessMaps(pid: getpid()))
    let lines = try #require(readText("/proc/self/maps", limit: 64 << 20)).split(separator: "\n").count
    // Others map and unmap meanwhile; but not by the hundred.
    #expect(maps.mappings.count > 20 && abs(maps.mappings.count - lines) < 100)
    #expect(maps.mappings.allSatisfy { !$0.addresses.isEmpty })
  }
}
