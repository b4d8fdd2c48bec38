import Domain
import Glibc
import Testing

@testable import Adapters

/// What Linux does when huge pages of a memfd are punched of which somebody holds a page: why live moves punch whole ones only.
@Suite struct KernelFactsHugePageTests {
  private static let hugeBytes = 2 << 20
  private static let heldPage = 100
  /// The libc headers may be older.
  private static let MADV_COLLAPSE: Int32 = 25

  /// A memfd whose first 2 MiB are one huge page full of ones, and a pipe that holds a page of it.
  private final class Held {
    let file: Descriptor
    private let pipe: [Descriptor]

    /// - Returns: nil where no huge page is to be had just now.
    init?() throws {
      file = Descriptor(owning: memfd_create("huge", UInt32(MFD_CLOEXEC)))
      try #require(ftruncate(file.raw, hugeBytes) == 0)
      let space = mmap(nil, 2 * hugeBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
      let start = try #require(space.map { UInt(bitPattern: $0) })
      defer { munmap(space, 2 * hugeBytes) }
      let aligned = UnsafeMutableRawPointer(bitPattern: (start + UInt(hugeBytes) - 1) & ~UInt(hugeBytes - 1))
      let memory = try #require(mmap(aligned, hugeBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file.raw, 0))
      memset(memory, 1, hugeBytes)
      var ends: [Int32] = [0, 0]
      try #require(Glibc.pipe(&ends) == 0)
      pipe = ends.map { Descriptor(owning: $0) }
      guard madvise(memory, hugeBytes, MADV_COLLAPSE) == 0 else { return nil }
      var part = iovec(iov_base: memory + heldPage * Machinery.pageBytes, iov_len: Machinery.pageBytes)
      try #require(vmsplice(pipe[1].raw, &part, 1, 0) == Machinery.pageBytes)
    }

    func punch(_ pages: Range<Int>) -> Int32 {
      fallocate(
        file.raw, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, pages.lowerBound * Machinery.pageBytes,
        pages.count * Machinery.pageBytes)
    }

    func firstByte(_ page: Int) -> UInt8 {
      var byte: UInt8 = 9
      pread(file.raw, &byte, 1, page * Machinery.pageBytes)
      return byte
    }
  }

  @Test("punched whole it is gone, whoever holds it", .enabled(if: Machinery.pageBytes == 4096))
  func whole() throws {
    guard let held = try Held() else { return }
    #expect(held.punch(0..<512) == 0)
    #expect(lseek(held.file.raw, 0, SEEK_DATA) == -1 && errno == ENXIO)
  }

  @Test("punched in part it reads as zeros, and has no hole", .enabled(if: Machinery.pageBytes == 4096))
  func part() throws {
    guard let held = try Held() else { return }
    #expect(held.punch(200..<250) == 0)
    #expect(lseek(held.file.raw, 200 * Machinery.pageBytes, SEEK_DATA) == 200 * Machinery.pageBytes)
    #expect([199, 200, 249, 250].map { held.firstByte($0) } == [1, 0, 0, 1])
  }
}
