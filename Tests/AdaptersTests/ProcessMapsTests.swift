import Domain
import Glibc
import Testing

@testable import Adapters

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
    // Pages 0-3 and 4-5 are file pages 2-7 in two mappings; 6-7 jump to 10; 8-9 are private; 10-11 are anonymous;
    // 12-13 are another file's.
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
