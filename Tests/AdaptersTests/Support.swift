import Domain
import Glibc
import Testing

@testable import Adapters

/// What the tests need of this machine.
enum Machinery {
  static let geometry: PageGeometry = {
    guard let geometry = Machine.pageGeometry() else { fatalError("this machine has no page size") }
    return geometry
  }()
  static let pageBytes = geometry.pageBytes

  static let hasUserfaultfd = loud("a userfaultfd") {
    do throws(SystemError) { return !(try Userfaultfd.create().isUserModeOnly) } catch { return false }
  }
  static let isRoot = loud("root's rights") { geteuid() == 0 }
  /// Whether a page written alone is a page alone: else SEEK_DATA counts in huge pages.
  static let hasSmallPages = loud("memfds of small pages") {
    readText("/sys/kernel/mm/transparent_hugepage/shmem_enabled").map { $0.contains("[never]") } ?? true
  }
  static let hasHugeMemfds = loud("hugetlb memfds") {
    let raw = memfd_create("probe", UInt32(MFD_HUGETLB))
    if raw >= 0 { close(raw) }
    return raw >= 0
  }
  static let hasLoopDevices = loud("loop devices and mkfs.ext2") {
    geteuid() == 0 && access("/dev/loop-control", F_OK) == 0 && access("/usr/sbin/mkfs.ext2", X_OK) == 0
  }

  private static func loud(_ what: String, _ isThere: () -> Bool) -> Bool {
    if isThere() { return true }
    Console.writeError("\n!!! NOT TESTED: this machine has no \(what), so tests that need it are left out\n\n")
    return false
  }
}

let waitLimitSeconds: UInt64 = 60

/// Looks again and again until `condition` holds; false when the time is up.
func eventually(_ condition: () throws -> Bool) rethrows -> Bool {
  let clock = SystemClock()
  let deadline = clock.nowNanoseconds + waitLimitSeconds * 1_000_000_000
  while !(try condition()) {
    if clock.nowNanoseconds > deadline { return false }
    clock.sleep(microseconds: 200)
  }
  return true
}

/// A thread that a test may wait for, and need not: it can be stuck in a fault.
final class Background<Value: Sendable>: @unchecked Sendable {  // its fields are guarded by `monitor`
  private let monitor = Monitor()
  private var value: Value?

  init(_ body: @escaping @Sendable () -> Value) throws {
    try Thread.runDetached(name: "background") { [self] in
      let result = body()
      monitor.withLock {
        value = result
        monitor.wakeAll()
      }
    }
  }

  var isDone: Bool { monitor.withLock { value != nil } }

  /// What the thread found; nil when it takes too long.
  func wait() -> Value? {
    let deadline = SystemClock().nowNanoseconds + waitLimitSeconds * 1_000_000_000
    return monitor.withLock {
      while value == nil && SystemClock().nowNanoseconds < deadline { monitor.wait(untilNanoseconds: deadline) }
      return value
    }
  }
}

/// A counter between threads.
final class Counter: @unchecked Sendable {  // guarded by `monitor`
  private let monitor = Monitor()
  private var count = 0

  var value: Int { monitor.withLock { count } }
  func increment() { monitor.withLock { count += 1 } }
}

/// Gives a thread that should be stuck the time to prove that it is not. (It can only miss an error, never invent one.)
func settle() { SystemClock().sleep(microseconds: 20_000) }

/// A directory that is gone, with all files in it, when its owner is.
final class TemporaryDirectory {
  let path: String

  init() throws { path = try Directory.makeTemporary() }

  deinit {
    for name in names { unlink("\(path)/\(name)") }
    Directory.remove(path)
  }

  var names: [String] { list(path) }
}

func list(_ path: String) -> [String] {
  guard let directory = opendir(path) else { return [] }
  defer { closedir(directory) }
  var names: [String] = []
  while let entry = readdir(directory) {
    let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    if name != "." && name != ".." { names.append(name) }
  }
  return names
}

/// Open descriptors of this process by what /proc says they are.
func openDescriptors(where matches: (String) -> Bool) -> [Int32] {
  list("/proc/self/fd").compactMap { Int32($0) }.filter { raw in
    var target = [UInt8](repeating: 0, count: 512)
    let count = target.withUnsafeMutableBytes {
      readlink("/proc/self/fd/\(raw)", $0.baseAddress!.assumingMemoryBound(to: CChar.self), $0.count)
    }
    return count > 0 && matches(String(decoding: target[0..<count], as: UTF8.self))
  }
}

/// A field that an adapter keeps to itself.
func hidden<Field>(_ path: any MirrorPath..., in object: Any, as type: Field.Type) -> Field? {
  var value: Any = object
  for step in path {
    guard let next = Mirror(reflecting: value).descendant(step) else { return nil }
    value = next
  }
  return value as? Field
}

func status(of file: Descriptor) -> stat {
  var status = stat()
  fstat(file.raw, &status)
  return status
}

/// How much memory a memfd takes.
func allocatedBytes(_ file: Descriptor) -> Int { Int(status(of: file).st_blocks) * 512 }

/// A page number's run, short.
func pages(_ first: Int, _ end: Int) -> PageRange { PageIndex(first)..<PageIndex(end) }
func slots(_ first: Int, _ end: Int) -> SlotRange { SwapSlot(first)..<SwapSlot(end) }

/// Page-sized content that is easy to tell: every byte is `byte`.
func filled(_ byte: UInt8, pages: Int = 1) -> [UInt8] {
  [UInt8](repeating: byte, count: pages * Machinery.pageBytes)
}

/// Writes page-sized content at a page of a file, past all mappings.
func put(_ bytes: [UInt8], in file: Descriptor, page: Int) {
  let count = pwrite(file.raw, bytes, bytes.count, page * Machinery.pageBytes)
  #expect(count == bytes.count)
}

/// Reads a page of a file; filling no hole.
func get(_ file: Descriptor, page: Int) -> [UInt8] {
  var bytes = [UInt8](repeating: 0xEE, count: Machinery.pageBytes)
  #expect(pread(file.raw, &bytes, bytes.count, page * Machinery.pageBytes) == bytes.count)
  return bytes
}

func hasData(_ file: Descriptor, page: Int) -> Bool {
  lseek(file.raw, page * Machinery.pageBytes, SEEK_DATA) == page * Machinery.pageBytes
}

/// A hasher with a fixed key.
let testHasher = PageHasher(
  pageBytes: Machinery.pageBytes,
  key: (0..<PageHasher.keyWords(pageBytes: Machinery.pageBytes)).map { SplitMix.mix(UInt64($0)) })

/// A sealed memfd, as a client would send it.
func makeGuestFile(pages: Int) throws -> Descriptor {
  let raw = memfd_create("adapters-tests-guest", UInt32(MFD_CLOEXEC) | UInt32(MFD_ALLOW_SEALING))
  try #require(raw >= 0)
  let file = Descriptor(owning: raw)
  try #require(ftruncate(raw, pages * Machinery.pageBytes) == 0)
  try #require(fcntl(raw, F_ADD_SEALS, F_SEAL_SHRINK) == 0)
  return file
}

/// Single pages.
extension StagingArea {
  func isZero(_ page: PageIndex) throws -> Bool { try look(at: page) { $0.isZero } }
  func checksum(of page: PageIndex) throws -> PageChecksum { try look(at: page) { $0.checksum } }

  func firstByte(of page: PageIndex) throws -> UInt8 {
    try withCopies(of: page..<(page + 1)) { buffer, _ in buffer.page(0).load(as: UInt8.self) }
  }

  private func look<Value>(at page: PageIndex, _ body: (PageContent) -> Value) throws -> Value {
    var value: Value?
    try examine(page..<(page + 1)) { value = body($1) }
    return try #require(value)
  }
}
