import Domain
import Glibc
import Testing

@testable import Adapters

/// What Linux does, as KERNEL.md has it and the code relies on it: pages in and out, events.
@Suite(.enabled(if: Machinery.hasUserfaultfd)) struct KernelFactsTests {
  @Test("COPY on a page that is there answers EEXIST and leaves the content")
  func copyOnPresent() throws {
    let arena = try Arena(pages: 2)
    defer { arena.close() }
    arena.put(0x11, 0)
    #expect(arena.copy(0x22, 0..<1) == (EEXIST, Int(-EEXIST)))
    #expect(arena.get(0) == 0x11)
  }

  @Test("COPY of several pages stops at the first that is there, and tells the bytes")
  func copyStopsAtPresent() throws {
    let arena = try Arena(pages: 8)
    defer { arena.close() }
    arena.put(0x11, 5)
    #expect(arena.copy(0x22, 2..<8) == (EAGAIN, 3 * Machinery.pageBytes))
    #expect((0..<8).map { arena.get($0) } == [0, 0, 0x22, 0x22, 0x22, 0x11, 0, 0])
    #expect((0..<8).filter { arena.hasData($0) } == [2, 3, 4, 5])
  }

  @Test("while a REMOVE event is unread, COPY, ZEROPAGE, WRITEPROTECT and POISON answer EAGAIN; afterwards they work")
  func unreadRemoveBlocksAll() throws {
    let arena = try Arena(pages: 8)
    defer { arena.close() }
    arena.put(1, 0)
    let remover = try arena.advising(MADV_REMOVE, 0..<1)
    try #require(arena.isReadable())
    #expect(arena.copy(2, 1..<3) == (EAGAIN, Int(-EAGAIN)))
    #expect(arena.zero(3) == EAGAIN)
    #expect(arena.protect(0..<8, true) == EAGAIN)
    #expect(arena.protect(0..<8, false) == EAGAIN)
    #expect(arena.poison(4) == EAGAIN)
    let event = try #require(arena.nextMessage())
    #expect(event.event == UFFD.EVENT_REMOVE)
    #expect(event.argument0 == arena.word(0) && event.argument1 == arena.word(1))
    #expect(remover.wait() == 0)
    #expect(arena.copy(2, 1..<3).errorNumber == 0)
    #expect(arena.zero(3) == 0)
    #expect(arena.poison(4) == 0)
    #expect(arena.protect(0..<8, true) == 0)
  }

  @Test("ZEROPAGE on a range that is not registered: EAGAIN while an event is unread, ENOENT else")
  func zeroPageTellsOfEvents() throws {
    let arena = try Arena(pages: 2)
    defer { arena.close() }
    arena.put(1, 0)
    let remover = try arena.advising(MADV_REMOVE, 0..<1)
    try #require(arena.isReadable())
    #expect(arena.unregister() == 0)
    #expect(arena.zero(1) == EAGAIN)
    // The event is still there after UNREGISTER, and its sender still waits.
    #expect(!remover.isDone)
    #expect(arena.nextMessage()?.event == UFFD.EVENT_REMOVE)
    #expect(remover.wait() == 0)
    #expect(arena.zero(1) == ENOENT)
  }

  @Test("page faults are handed out before a REMOVE that was queued earlier")
  func faultsBeforeRemoves() throws {
    let arena = try Arena(pages: 4)
    defer { arena.close() }
    arena.put(1, 0)
    let remover = try arena.advising(MADV_REMOVE, 0..<1)
    try #require(arena.isReadable())
    let vcpu = try arena.loading(3)
    try #require(eventually { arena.pendingFaults == 1 })
    let first = try #require(arena.nextMessage())
    #expect(first.event == UFFD.EVENT_PAGEFAULT && first.argument1 & ~0xFFF == arena.word(3))
    let second = try #require(arena.nextMessage())
    #expect(second.event == UFFD.EVENT_REMOVE)
    #expect(remover.wait() == 0)
    #expect(arena.copy(9, 3..<4).errorNumber == 0)
    #expect(vcpu.wait() == 9)
  }

  @Test("MADV_REMOVE waits until its event is read, and removes afterwards")
  func removeWaitsForReader() throws {
    let arena = try Arena(pages: 4)
    defer { arena.close() }
    for page in 0..<4 { arena.put(7, page) }
    let remover = try arena.advising(MADV_REMOVE, 1..<3)
    try #require(arena.isReadable())
    settle()
    #expect(!remover.isDone)
    #expect((0..<4).allSatisfy { arena.hasData($0) })
    let event = try #require(arena.nextMessage())
    #expect(event.argument0 == arena.word(1) && event.argument1 == arena.word(3))
    #expect(remover.wait() == 0)
    #expect((0..<4).map { arena.hasData($0) } == [true, false, false, true])
  }

  @Test("MADV_DONTNEED sends the same event and keeps the data of shared memory")
  func dontNeedKeeps() throws {
    let arena = try Arena(pages: 2)
    defer { arena.close() }
    arena.put(7, 0)
    let remover = try arena.advising(MADV_DONTNEED, 0..<1)
    let event = try #require(arena.awaitMessage())
    #expect(event.event == UFFD.EVENT_REMOVE && event.argument0 == arena.word(0) && event.argument1 == arena.word(1))
    #expect(remover.wait() == 0)
    #expect(arena.get(0) == 7)
  }

  @Test("without the feature there is no event, and nobody waits")
  func noEventUnasked() throws {
    let arena = try Arena(pages: 2, features: 0)
    defer { arena.close() }
    arena.put(7, 0)
    #expect(try arena.advising(MADV_REMOVE, 0..<1).wait() == 0)
    #expect(arena.nextMessage() == nil)
  }

  @Test("pread on a hole fills nothing; a load through a mapping that is not registered does, for good")
  func touchingHoles() throws {
    let arena = try Arena(pages: 4)
    defer { arena.close() }
    #expect(arena.get(1) == 0)
    #expect(!arena.hasData(1))
    let other = try MemoryMapping(
      of: arena.file, bytes: 4 * Machinery.pageBytes, writable: false, operation: "mapping once more")
    #expect((other.address + Machinery.pageBytes).load(as: UInt8.self) == 0)
    #expect(arena.hasData(1))
    #expect(arena.copy(3, 1..<2).errorNumber == EEXIST)
    #expect(arena.nextMessage() == nil)
  }

  @Test("a page in the memfd that is not mapped yet faults without a message")
  func cachedPagesAreMapped() throws {
    let arena = try Arena(pages: 2)
    defer { arena.close() }
    arena.put(5, 1)
    #expect(try arena.loading(1).wait() == 5)
    #expect(arena.nextMessage() == nil)
  }

  @Test("a punch through the descriptor drops the page in every mapping and sends no event")
  func punchDropsEverywhere() throws {
    let arena = try Arena(pages: 4)
    defer { arena.close() }
    let other = try MemoryMapping(
      of: arena.file, bytes: 4 * Machinery.pageBytes, writable: false, operation: "mapping once more")
    for page in 0..<4 { arena.put(5, page) }
    #expect(try arena.loading(1).wait() == 5)
    #expect((other.address + Machinery.pageBytes).load(as: UInt8.self) == 5)
    #expect(arena.punch(1..<2) == 0)
    #expect(arena.nextMessage() == nil)
    #expect(!arena.hasData(1))
    let vcpu = try arena.loading(1)
    let fault = try #require(arena.awaitMessage())
    #expect(fault.event == UFFD.EVENT_PAGEFAULT && fault.argument0 & UFFD.PAGEFAULT_FLAG_WP == 0)
    #expect(arena.copy(6, 1..<2).errorNumber == 0)
    #expect(vcpu.wait() == 6)
    // The other mapping had lost the old page, and sees the new one.
    #expect((other.address + Machinery.pageBytes).load(as: UInt8.self) == 6)
    #expect((0..<4).map { arena.get($0) } == [5, 6, 5, 5])
  }

  @Test("a waiter whose page came by another way goes on at WAKE; ZEROPAGE allocates a page and wakes")
  func wakeAndZero() throws {
    let arena = try Arena(pages: 2)
    defer { arena.close() }
    let vcpu = try arena.loading(0)
    try #require(arena.awaitMessage() != nil)
    arena.put(8, 0)
    settle()
    #expect(!vcpu.isDone)
    #expect(arena.wake(0..<1) == 0)
    #expect(vcpu.wait() == 8)
    let other = try arena.loading(1)
    try #require(arena.awaitMessage() != nil)
    #expect(arena.zero(1) == 0)
    #expect(other.wait() == 0)
    #expect(arena.hasData(1))
    #expect(arena.zero(1) == EEXIST)
  }

  @Test("a range has one userfaultfd (EBUSY); disjoint parts of a mapping may have two")
  func oneUserfaultfdPerRange() throws {
    let arena = try Arena(pages: 4, registers: false)
    defer { arena.close() }
    #expect(arena.register(0..<2) == 0)
    let second = try Userfaultfd.create().descriptor
    try Userfaultfd.handshake(second, features: UFFD.FEATURE_EVENT_REMOVE)
    func register(_ page: Int) -> Int32 {
      var request = uffdio_register(
        range: uffdio_range(start: arena.word(page), len: UInt64(2 * Machinery.pageBytes)), mode: Arena.modes)
      return ioctl(second.raw, UFFD.UFFDIO_REGISTER, &request) == 0 ? 0 : errno
    }
    #expect(register(0) == EBUSY)
    #expect(register(2) == 0)
  }

  @Test("registered shared memory allows write protection and poison")
  func rangeIoctls() throws {
    let arena = try Arena(pages: 1, registers: false)
    defer { arena.close() }
    var request = uffdio_register(
      range: uffdio_range(start: arena.word(0), len: UInt64(Machinery.pageBytes)), mode: Arena.modes)
    #expect(ioctl(arena.userfaultfd.raw, UFFD.UFFDIO_REGISTER, &request) == 0)
    #expect(request.ioctls & UFFD.IOCTL_WRITEPROTECT != 0)
    #expect(request.ioctls & 1 << 8 != 0)
  }
}
