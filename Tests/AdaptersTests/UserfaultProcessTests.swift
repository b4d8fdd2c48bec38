import Domain
import Glibc
import Testing

@testable import Adapters

/// A tenant of two regions in one memfd, the second one first in the file.
private final class Fixture {
  let arena: Arena
  let staging: StagingArea
  let map: RegionMap
  let process: UserfaultProcess

  init(registers: Bool = true, at place: Arena.Place? = nil) throws {
    let arena = try Arena(pages: 16, registers: false, at: place)
    self.arena = arena
    staging = StagingArea(pageCount: 14, geometry: Machinery.geometry, hasher: testHasher)
    try staging.create()
    let file = try GuestFileInspection.inspect(arena.file, number: 0, geometry: Machinery.geometry)
    func request(_ range: Range<Int>) -> RegionRequest {
      RegionRequest(
        address: arena.word(range.lowerBound), size: UInt64(range.count * Machinery.pageBytes), file: 0,
        offset: UInt64(range.lowerBound * Machinery.pageBytes))
    }
    // Tenant pages 0..<8 are the arena's 8..<16, and 8..<14 its 1..<7.
    map = try RegionMap([request(8..<16), request(1..<7)], files: [file], geometry: Machinery.geometry)
    process = try UserfaultProcess(
      userfaultfd: arena.userfaultfd, handle: try ProcessHandle(pid: getpid()), map: map, staging: staging)
    if registers { try process.register() }
  }

  func stage(_ byte: UInt8, _ page: Int, count: Int = 1) throws {
    try filled(byte, pages: count).withUnsafeBytes { try staging.write($0, at: PageIndex(page)) }
  }

  /// The events of one read that finds some.
  func events() throws -> [MemoryEvent] {
    try #require(arena.isReadable())
    let batch = try process.readEvents()
    defer { batch.clear() }
    return (0..<batch.count).map { batch.event(at: $0) }
  }
}

@Suite(.enabled(if: Machinery.hasUserfaultfd)) struct UserfaultProcessTests {
  @Test("staged pages are installed, as many as there are, and their waiters woken")
  func installFromStaging() throws {
    let tenant = try Fixture()
    defer { tenant.arena.close() }
    for page in 0..<8 { try tenant.stage(UInt8(page + 1), page) }
    let vcpu = try tenant.arena.loading(12)
    #expect(try tenant.events() == [.missing(address: tenant.arena.word(12))])
    #expect(tenant.process.install(pages(0, 8), from: .staging) == InstallResult(installed: 8))
    #expect((8..<16).map { tenant.arena.get($0) } == [1, 2, 3, 4, 5, 6, 7, 8])
    #expect(vcpu.wait() == 5)
  }

  @Test("an install ends at the guest's own page, and tells how far it came", arguments: 0..<6)
  func installStopsAtPresent(present: Int) throws {
    let tenant = try Fixture()
    defer { tenant.arena.close() }
    try tenant.stage(9, 8, count: 6)
    tenant.arena.put(1, present + 1)
    let result = tenant.process.install(pages(8, 14), from: .staging)
    #expect(result == InstallResult(installed: present, stop: .alreadyPresent))
    #expect(
      (1..<7).map { tenant.arena.get($0) } == (0..<6).map { $0 < present ? 9 : $0 == present ? 1 : 0 })
  }

  @Test("pages of a buffer are installed from an index on")
  func installFromBuffer() throws {
    let tenant = try Fixture()
    defer { tenant.arena.close() }
    let buffer = try LockedBuffer(pages: 4, geometry: Machinery.geometry, hasher: testHasher)
    for page in 0..<4 { memset(buffer.page(page), Int32(page + 1), Machinery.pageBytes) }
    #expect(tenant.process.install(pages(9, 12), from: .buffer(buffer, index: 1)) == InstallResult(installed: 3))
    #expect((1..<7).map { tenant.arena.get($0) } == [0, 2, 3, 4, 0, 0])
  }

  @Test("an install crosses the bounds between two mappings of the client's")
  func installAcrossMappings() throws {
    let tenant = try Fixture()
    defer { tenant.arena.close() }
    // Another flag splits the mapping in the middle of the region.
    try #require(madvise(tenant.arena.address(11), 2 * Machinery.pageBytes, MADV_DODUMP) == 0)
    try tenant.stage(3, 0, count: 8)
    #expect(tenant.process.install(pages(0, 8), from: .staging) == InstallResult(installed: 8))
    #expect((8..<16).allSatisfy { tenant.arena.get($0) == 3 })
  }

  @Test("unread events: nothing is installed, protected or poisoned, and it is said so")
  func pendingEvents() throws {
    let tenant = try Fixture()
    defer { tenant.arena.close() }
    try tenant.stage(3, 0, count: 8)
    tenant.arena.put(1, 1)
    let remover = try tenant.arena.advising(MADV_REMOVE, 1..<2)
    try #require(tenant.arena.isReadable())
    let pending = InstallResult(installed: 0, stop: .eventPending)
    #expect(tenant.process.install(pages(0, 8), from: .staging) == pending)
    #expect(tenant.process.installZero(PageIndex(0)) == pending)
    #expect(tenant.process.poison(PageIndex(0)) == pending)
    #expect(try tenant.process.protect(pages(0, 8)) == .eventPending)
    #expect(try tenant.process.unprotect(pages(0, 8)) == .eventPending)
    #expect(try tenant.events() == [.removed(start: tenant.arena.word(1), end: tenant.arena.word(2))])
    #expect(remover.wait() == 0)
    #expect(try tenant.process.protect(pages(0, 8)) == .done)
    #expect(try tenant.process.unprotect(pages(0, 8)) == .done)
  }

  @Test("zero pages and poison: installed once, healed by an install")
  func zeroAndPoison() throws {
    let tenant = try Fixture()
    defer { tenant.arena.close() }
    let present = InstallResult(installed: 0, stop: .alreadyPresent)
    #expect(tenant.process.installZero(PageIndex(8)) == InstallResult(installed: 1))
    #expect(tenant.process.installZero(PageIndex(8)) == present)
    #expect(tenant.arena.hasData(1))
    #expect(tenant.process.poison(PageIndex(9)) == InstallResult(installed: 1))
    #expect(tenant.process.poison(PageIndex(9)) == present)
    try tenant.stage(5, 9)
    #expect(tenant.process.install(pages(9, 10), from: .staging) == InstallResult(installed: 1))
    #expect(try tenant.arena.loading(2).wait() == 5)
  }

  @Test("faults of both kinds and removes are told apart; an empty read says nothing")
  func eventKinds() throws {
    let tenant = try Fixture()
    defer { tenant.arena.close() }
    #expect(try tenant.process.readEvents().count == 0)
    tenant.arena.put(1, 1)
    #expect(try tenant.process.protect(pages(8, 9)) == .done)
    let writer = try tenant.arena.storing(2, 1)
    #expect(try tenant.events() == [.writeProtected(address: tenant.arena.word(1))])
    #expect(try tenant.process.unprotect(pages(8, 9)) == .done)
    #expect(writer.wait() == true)
    let reader = try tenant.arena.loading(2)
    #expect(try tenant.events() == [.missing(address: tenant.arena.word(2))])
    tenant.arena.put(7, 2)
    tenant.process.wake(pages(9, 10))
    #expect(reader.wait() == 7)
  }

  @Test("events are read without waiting when the client has cleared O_NONBLOCK")
  func clearedFlag() throws {
    let tenant = try Fixture()
    defer { tenant.arena.close() }
    let raw = tenant.arena.userfaultfd.raw
    try #require(fcntl(raw, F_SETFL, fcntl(raw, F_GETFL) & ~O_NONBLOCK) == 0)
    let process = tenant.process
    let count = try Background { () -> Int in
      do throws(PortFailure) { return try process.readEvents().count } catch { return -1 }
    }
    #expect(count.wait() == 0)
  }

  @Test("more faults than a batch holds come in several")
  func batchLimit() throws {
    let arena = try Arena(pages: EventBuffer.capacity + 10)
    defer { arena.close() }
    let vcpus = try (0..<arena.pageCount).map { try arena.loading($0) }
    try #require(eventually { arena.pendingFaults == arena.pageCount })
    let buffer = try EventBuffer()
    var seen: [MemoryEvent] = []
    for expected in [EventBuffer.capacity, 10, 0] {
      try buffer.fill(from: arena.userfaultfd)
      #expect(buffer.count == expected)
      seen += (0..<buffer.count).map { buffer.event(at: $0) }
      buffer.clear()
      #expect(buffer.count == 0)
    }
    #expect(Set(seen.map { "\($0)" }).count == arena.pageCount)
    #expect(arena.copy(1, 0..<arena.pageCount).errorNumber == 0)
    #expect(vcpus.allSatisfy { $0.wait() == 1 })
  }

  @Test("a registration that fails half way leaves no region registered")
  func registerRollsBack() throws {
    let tenant = try Fixture(registers: false)
    defer { tenant.arena.close() }
    let other = try Userfaultfd.create().descriptor
    try Userfaultfd.handshake(other, features: 0)
    var request = uffdio_register(
      range: uffdio_range(start: tenant.arena.word(1), len: UInt64(Machinery.pageBytes)), mode: Arena.modes)
    try #require(ioctl(other.raw, UFFD.UFFDIO_REGISTER, &request) == 0)
    #expect(throws: PortFailure(.registerRange, errorNumber: EBUSY)) { try tenant.process.register() }
    #expect(tenant.process.installZero(PageIndex(0)) == InstallResult(installed: 0, stop: .failed(errorNumber: ENOENT)))
    #expect(throws: PortFailure(.protectRange, errorNumber: ENOENT)) { try tenant.process.protect(pages(0, 1)) }
  }

  @Test("late events are read in the end, so that their senders go on; unregistering may be done twice")
  func unregisterDrains() throws {
    let tenant = try Fixture()
    defer { tenant.arena.close() }
    tenant.arena.put(1, 8)
    let remover = try tenant.arena.advising(MADV_REMOVE, 8..<9)
    try #require(tenant.arena.isReadable())
    try tenant.process.unregister()
    #expect(tenant.arena.isReadable(), "unregistering leaves events to whoever reads them")
    tenant.process.settleLateEvents()
    #expect(remover.wait() == 0)
    #expect(tenant.arena.nextMessage() == nil)
    #expect(try tenant.arena.loading(9).wait() == 0)
    try tenant.process.unregister()
  }

  @Test("a region that the client has unmapped does not keep the rest registered")
  func unregisterUnmapped() throws {
    let tenant = try Fixture(at: .unmapped)
    defer { tenant.arena.close() }
    try #require(munmap(tenant.arena.address(8), 8 * Machinery.pageBytes) == 0)
    try tenant.process.unregister()
    #expect(tenant.process.installZero(PageIndex(8)) == InstallResult(installed: 0, stop: .failed(errorNumber: ENOENT)))
  }

  @Test("a dead process is gone, in every answer")
  func deadProcess() throws {
    let child = try Child { inside in
      let arena = try Arena(pages: 16)
      inside.tell(arena.userfaultfd.raw)
      inside.waitForEver()
    }
    let tenant = try Fixture(registers: false)
    defer { tenant.arena.close() }
    let userfaultfd = try child.take(try #require(child.hear()))
    let process = try UserfaultProcess(
      userfaultfd: userfaultfd, handle: child.handle, map: tenant.map, staging: tenant.staging)
    #expect(process.isAlive)
    #expect(child.end(signal: SIGKILL) == .signal(SIGKILL))
    #expect(!process.isAlive)
    let gone = InstallResult(installed: 0, stop: .processGone)
    #expect(process.install(pages(0, 8), from: .staging) == gone)
    #expect(process.installZero(PageIndex(0)) == gone)
    #expect(process.poison(PageIndex(0)) == gone)
    #expect(try process.protect(pages(0, 8)) == .processGone)
    #expect(throws: PortFailure(.registerRange, errorNumber: ENOMEM)) { try process.register() }
    try process.unregister()
    #expect(try process.readEvents().count == 0)
  }
}
