import Domain
import Glibc
import Testing

@testable import Adapters

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

  @Test(
    "a memfd that can't be written, now or later, is refused: it can't be punched", arguments: [F_SEAL_WRITE, 0x10])
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
