import Domain
import Glibc
import Testing

@testable import Adapters

/// Guest memory of this very process at a userfaultfd of this very process; its threads are the vCPUs.
///
/// The test's own thread touches none of it: it would wait for a fault that nobody serves.
final class Arena: @unchecked Sendable {  // addresses never change
  let file: Descriptor
  let userfaultfd: Descriptor
  let pageCount: Int
  private let start: UnsafeMutableRawPointer
  private let source: MemoryMapping

  static let modes = UFFD.REGISTER_MODE_MISSING | UFFD.REGISTER_MODE_WP

  /// - Parameter place: where it lies: for tests that unmap some of it. Elsewhere somebody else's memory may come to lie in the
  ///   gap, and be unregistered and unmapped with the rest of this.
  init(
    pages: Int, features: UInt64 = UFFD.FEATURE_EVENT_REMOVE, registers: Bool = true, at place: Place? = nil
  ) throws {
    let bytes = pages * Machinery.pageBytes
    file = try makeGuestFile(pages: pages)
    let mapped = mmap(
      place.map { UnsafeMutableRawPointer(bitPattern: $0.rawValue) } ?? nil, bytes, PROT_READ | PROT_WRITE,
      MAP_SHARED | (place == nil ? 0 : Int32(MAP_FIXED_NOREPLACE)), file.raw, 0)
    start = try #require(mapped != MAP_FAILED ? mapped : nil, "mapping: \(errno)")
    source = try MemoryMapping(anonymousBytes: bytes, operation: "mapping")
    userfaultfd = try Userfaultfd.create().descriptor
    pageCount = pages
    try Userfaultfd.handshake(userfaultfd, features: features)
    if registers { try #require(register() == 0) }
  }

  deinit { munmap(start, pageCount * Machinery.pageBytes) }

  /// Far below all places that the kernel chooses.
  enum Place: UInt {
    case moved = 0x10_0000_0000
    case unmapped = 0x11_0000_0000
  }

  /// Lets everybody go who waits for something. A fault in flight gets zeros, a remover its event read.
  func close() {
    _ = fcntl(userfaultfd.raw, F_SETFL, fcntl(userfaultfd.raw, F_GETFL) | O_NONBLOCK)
    for _ in 0..<3 {
      while nextMessage() != nil {}
      unregister()
      settle()
    }
  }

  // MARK: The tenant's accesses, which may wait

  func load(_ page: Int) -> UInt8 { address(page).load(as: UInt8.self) }
  func store(_ byte: UInt8, _ page: Int) { address(page).storeBytes(of: byte, as: UInt8.self) }
  func advise(_ advice: Int32, _ pages: Range<Int>) -> Int32 {
    madvise(address(pages.lowerBound), pages.count * Machinery.pageBytes, advice)
  }

  /// A thread that loads a page's first byte.
  func loading(_ page: Int) throws -> Background<UInt8> { try Background { [self] in load(page) } }
  /// A thread that stores a page's first byte.
  func storing(_ byte: UInt8, _ page: Int) throws -> Background<Bool> {
    try Background { [self] in
      store(byte, page)
      return true
    }
  }
  /// A thread in madvise; its value is the call's.
  func advising(_ advice: Int32, _ pages: Range<Int>) throws -> Background<Int32> {
    try Background { [self] in advise(advice, pages) }
  }

  // MARK: Past the mapping

  func put(_ byte: UInt8, _ page: Int) { AdaptersTests.put(filled(byte), in: file, page: page) }
  func get(_ page: Int) -> UInt8 { AdaptersTests.get(file, page: page)[0] }
  func hasData(_ page: Int) -> Bool { AdaptersTests.hasData(file, page: page) }
  func punch(_ pages: Range<Int>) -> Int32 {
    fallocate(
      file.raw, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, pages.lowerBound * Machinery.pageBytes,
      pages.count * Machinery.pageBytes)
  }

  // MARK: The monitor's requests; each answers with the error number

  @discardableResult
  func register(_ pages: Range<Int>? = nil, modes: UInt64 = modes) -> Int32 {
    var request = uffdio_register(range: range(pages ?? 0..<pageCount), mode: modes)
    return control(UFFD.UFFDIO_REGISTER, &request)
  }

  @discardableResult
  func unregister(_ pages: Range<Int>? = nil) -> Int32 {
    var range = range(pages ?? 0..<pageCount)
    return control(UFFD.UFFDIO_UNREGISTER, &range)
  }

  /// - Returns: the error number, and what the kernel left in `copy`.
  func copy(_ byte: UInt8, _ pages: Range<Int>) -> (errorNumber: Int32, copied: Int) {
    memset(source.address, Int32(byte), pages.count * Machinery.pageBytes)
    var request = uffdio_copy(
      dst: UInt64(UInt(bitPattern: address(pages.lowerBound))), src: UInt64(UInt(bitPattern: source.address)),
      len: UInt64(pages.count * Machinery.pageBytes))
    let errorNumber = control(UFFD.UFFDIO_COPY, &request)
    return (errorNumber, Int(request.copy))
  }

  func zero(_ page: Int) -> Int32 { fill(page, UFFD.UFFDIO_ZEROPAGE) }
  func poison(_ page: Int) -> Int32 { fill(page, UFFD.UFFDIO_POISON) }

  func wake(_ pages: Range<Int>) -> Int32 {
    var range = range(pages)
    return control(UFFD.UFFDIO_WAKE, &range)
  }

  func protect(_ pages: Range<Int>, _ isProtected: Bool) -> Int32 {
    var request = uffdio_writeprotect(range: range(pages), mode: isProtected ? UFFD.WRITEPROTECT_MODE_WP : 0)
    return control(UFFD.UFFDIO_WRITEPROTECT, &request)
  }

  // MARK: Messages

  /// Reads one message, if there is one.
  func nextMessage() -> uffd_msg? {
    var message = uffd_msg()
    return read(userfaultfd.raw, &message, 32) == 32 ? message : nil
  }

  /// Reads one message; nil when none comes.
  func awaitMessage() -> uffd_msg? { isReadable() ? nextMessage() : nil }

  /// Waits until a message is there to be read.
  func isReadable(milliseconds: Int32 = Int32(waitLimitSeconds) * 1000) -> Bool {
    var poll = pollfd(fd: userfaultfd.raw, events: Int16(POLLIN), revents: 0)
    return Glibc.poll(&poll, 1, milliseconds) == 1 && poll.revents == Int16(POLLIN)
  }

  /// Faults that nobody has read yet, as fdinfo tells ("pending:"); events do not count.
  var pendingFaults: Int {
    for line in (readText("/proc/self/fdinfo/\(userfaultfd.raw)") ?? "").split(separator: "\n")
    where line.hasPrefix("pending:") {
      return Int(line.dropFirst(8).filter(\.isNumber)) ?? -1
    }
    return -1
  }

  func address(_ page: Int) -> UnsafeMutableRawPointer { start + page * Machinery.pageBytes }
  func word(_ page: Int) -> UInt64 { UInt64(UInt(bitPattern: address(page))) }

  private func fill(_ page: Int, _ number: UInt) -> Int32 {
    var request = uffdio_fill(range: range(page..<(page + 1)))
    return control(number, &request)
  }

  private func range(_ pages: Range<Int>) -> uffdio_range {
    uffdio_range(start: word(pages.lowerBound), len: UInt64(pages.count * Machinery.pageBytes))
  }

  private func control<Request>(_ number: UInt, _ request: inout Request) -> Int32 {
    withUnsafeMutablePointer(to: &request) { ioctl(userfaultfd.raw, number, $0) } == 0 ? 0 : errno
  }
}
