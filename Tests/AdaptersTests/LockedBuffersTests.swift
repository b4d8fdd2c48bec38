import Domain
import Glibc
import Testing

@testable import Adapters

@Suite struct LockedBuffersTests {
  @Test("a buffer's checksums are its pages'")
  func checksums() throws {
    let buffer = try LockedBuffer(pages: 3, geometry: Machinery.geometry, hasher: testHasher)
    #expect(buffer.capacityPages == 3)
    for page in 0..<3 { memset(buffer.page(page), Int32(page % 2), Machinery.pageBytes) }
    #expect(buffer.checksum(at: 0) == buffer.checksum(at: 2))
    #expect(buffer.checksum(at: 0) != buffer.checksum(at: 1))
    #expect(UInt(bitPattern: buffer.address) % UInt(Machinery.pageBytes) == 0)
  }

  @Test("a huge page is one")
  func hugePage() throws {
    let pages = Machinery.geometry.hugePagePages
    let buffer = try LockedBuffer(pages: pages, geometry: Machinery.geometry, hasher: testHasher)
    #expect(UInt(bitPattern: buffer.address) % UInt(Machinery.geometry.bytes(inPages: pages)) == 0)
  }

  @Test("the budget is never exceeded, from any number of threads, and all of it comes back")
  func budget() throws {
    let memory = LockedMemory(budget: PrefetchBudget(memoryLockLimitBytes: 10))
    let threads = try (0..<4).map { _ in
      try Background { () -> Bool in
        for _ in 0..<2000 where memory.take(4) { memory.giveBack(4) }
        return true
      }
    }
    #expect(threads.allSatisfy { $0.wait() == true })
    #expect(memory.take(4) && memory.take(4) && !memory.take(4) && memory.take(2) && !memory.take(1))
    memory.giveBack(10)
    #expect(memory.take(10))
  }
}
