import Domain
import Glibc
import Testing

@testable import Adapters

#if arch(x86_64)
  private let SYS_mremap = 25
#else
  private let SYS_mremap = 216
#endif

/// What Linux does, as KERNEL.md has it and the code relies on it: protection, poison, the descriptor, death.
@Suite(.enabled(if: Machinery.hasUserfaultfd)) struct KernelFactsDescriptorTests {
  // MARK: Write protection

  @Test("write protection blocks a store, not a load; lifting it lets the store go on")
  func protectionBlocksStores() throws {
    let arena = try Arena(pages: 4)
    defer { arena.close() }
    arena.put(1, 2)
    #expect(arena.protect(0..<4, true) == 0)
    #expect(try arena.loading(2).wait() == 1)
    let writer = try arena.storing(2, 2)
    let fault = try #require(arena.awaitMessage())
    #expect(fault.event == UFFD.EVENT_PAGEFAULT && fault.argument0 & UFFD.PAGEFAULT_FLAG_WP != 0)
    #expect(fault.argument1 & ~0xFFF == arena.word(2))
    settle()
    #expect(!writer.isDone)
    #expect(arena.get(2) == 1)
    #expect(arena.protect(0..<4, false) == 0)
    #expect(writer.wait() == true)
    #expect(arena.get(2) == 2)
  }

  @Test("pages that are cached and not mapped do not escape write protection")
  func protectionOfUnmappedPages() throws {
    let arena = try Arena(pages: 1)
    defer { arena.close() }
    arena.put(1, 0)  // no thread has touched it through the mapping
    #expect(arena.protect(0..<1, true) == 0)
    let writer = try arena.storing(2, 0)
    let fault = try #require(arena.awaitMessage())
    #expect(fault.argument0 & UFFD.PAGEFAULT_FLAG_WP != 0)
    #expect(arena.protect(0..<1, false) == 0)
    #expect(writer.wait() == true)
  }

  @Test("a writer whose page was punched under protection faults again as missing when protection is lifted")
  func protectedPunch() throws {
    let arena = try Arena(pages: 2)
    defer { arena.close() }
    arena.put(1, 0)
    #expect(arena.protect(0..<2, true) == 0)
    let writer = try arena.storing(2, 0)
    try #require(arena.awaitMessage() != nil)
    #expect(arena.punch(0..<1) == 0)
    settle()
    #expect(!writer.isDone)
    #expect(arena.protect(0..<2, false) == 0)
    let fault = try #require(arena.awaitMessage())
    #expect(fault.event == UFFD.EVENT_PAGEFAULT && fault.argument0 & UFFD.PAGEFAULT_FLAG_WP == 0)
    #expect(arena.copy(9, 0..<1).errorNumber == 0)
    #expect(writer.wait() == true)
    #expect(AdaptersTests.get(arena.file, page: 0)[0...1] == [2, 9])
  }

  @Test("markers survive a punch; COPY overwrites them, and the page can be written to")
  func markersSurvivePunch() throws {
    let arena = try Arena(pages: 2)
    defer { arena.close() }
    arena.put(1, 0)
    arena.put(1, 1)
    #expect(try arena.loading(0).wait() == 1)
    #expect(arena.protect(0..<2, true) == 0)
    #expect(arena.punch(0..<2) == 0)
    // The memfd gets data again behind the mapping's back: the marker still protects it.
    arena.put(3, 0)
    let writer = try arena.storing(4, 0)
    let fault = try #require(arena.awaitMessage())
    #expect(fault.argument0 & UFFD.PAGEFAULT_FLAG_WP != 0)
    settle()
    #expect(!writer.isDone)
    // COPY into the other hole: no protection is left on it.
    #expect(arena.copy(5, 1..<2).errorNumber == 0)
    #expect(try arena.storing(6, 1).wait() == true)
    #expect(arena.get(1) == 6)
    #expect(arena.protect(0..<1, false) == 0)
    #expect(writer.wait() == true)
  }

  @Test("protecting a range that is not registered for it is an error")
  func protectionNeedsRegistration() throws {
    let arena = try Arena(pages: 1, registers: false)
    defer { arena.close() }
    #expect(arena.protect(0..<1, true) == ENOENT)
  }

  // MARK: Poison

  @Test("POISON gives SIGBUS to who reads the page")
  func poisonKills() throws {
    let child = try Child { _ in
      let arena = try Arena(pages: 2)
      guard arena.poison(1) == 0 else { return 1 }
      _ = arena.load(1)
      return 2
    }
    #expect(child.end() == .signal(SIGBUS))
  }

  @Test("POISON leaves neighbours alone, answers EFAULT to the kernel's own access, and COPY heals it")
  func poisonHeals() throws {
    let child = try Child { inside in
      let arena = try Arena(pages: 3)
      guard arena.copy(1, 0..<1).errorNumber == 0, arena.poison(1) == 0 else { return 1 }
      guard arena.load(0) == 1 else { return 2 }
      guard write(3, arena.address(1), 1) == -1, errno == EFAULT else { return 3 }
      guard !arena.hasData(1) else { return 4 }
      guard arena.copy(7, 1..<2).errorNumber == 0 else { return 5 }
      return arena.load(1) == 7 ? 0 : 6
    }
    #expect(child.end() == .exit(0))
  }

  @Test("POISON wakes a thread that waits for the page, with SIGBUS")
  func poisonWakes() throws {
    let child = try Child { _ in
      let arena = try Arena(pages: 2)
      _ = try arena.loading(1)
      guard arena.awaitMessage() != nil else { return 1 }
      guard arena.poison(1) == 0 else { return 2 }
      sleep(UInt32(waitLimitSeconds))
      return 3
    }
    #expect(child.end() == .signal(SIGBUS))
  }

  @Test("a hole under write protection can't be poisoned (EEXIST: a marker is in the way), and can when that is lifted")
  func poisonUnderProtection() throws {
    let arena = try Arena(pages: 2)
    defer { arena.close() }
    #expect(arena.protect(0..<2, true) == 0)
    #expect(arena.poison(1) == EEXIST)
    #expect(arena.protect(0..<2, false) == 0)
    #expect(arena.poison(1) == 0)
  }

  @Test("poison outlives protection and its end")
  func protectionKeepsPoison() throws {
    let child = try Child { _ in
      let arena = try Arena(pages: 2)
      guard arena.poison(1) == 0, arena.protect(0..<2, true) == 0, arena.protect(0..<2, false) == 0 else { return 1 }
      _ = arena.load(1)
      return 2
    }
    #expect(child.end() == .signal(SIGBUS))
  }

  // MARK: The descriptor

  @Test("UNREGISTER on a range that is not registered does nothing, and says so with 0")
  func unregisterUnregistered() throws {
    let arena = try Arena(pages: 2)
    defer { arena.close() }
    #expect(arena.unregister() == 0)
    #expect(arena.unregister() == 0)
  }

  @Test("the handshake can be done once")
  func handshakeOnce() throws {
    let descriptor = try Userfaultfd.create().descriptor
    try Userfaultfd.handshake(descriptor, features: UFFD.FEATURE_EVENT_REMOVE)
    let failure = #expect(throws: SystemError.self) {
      try Userfaultfd.handshake(descriptor, features: UFFD.FEATURE_EVENT_REMOVE)
    }
    #expect(failure?.errorNumber == EINVAL)
  }

  @Test("fdinfo tells the features that were asked for, before and after the handshake")
  func fdinfo() throws {
    func line(_ descriptor: Descriptor) -> Substring? {
      (readText("/proc/self/fdinfo/\(descriptor.raw)") ?? "").split(separator: "\n").first { $0.hasPrefix("API:") }
    }
    let descriptor = try Userfaultfd.create().descriptor
    #expect(line(descriptor)?.hasPrefix("API:\taa:0:") == true)
    try Userfaultfd.handshake(descriptor, features: UFFD.FEATURE_EVENT_REMOVE)
    #expect(line(descriptor)?.hasPrefix("API:\taa:80000008:") == true)
  }

  @Test("preadv2 with RWF_NOWAIT does not wait, whatever O_NONBLOCK says; poll says POLLERR without it")
  func noWait() throws {
    let arena = try Arena(pages: 2)
    defer { arena.close() }
    let raw = arena.userfaultfd.raw
    #expect(fcntl(raw, F_SETFL, fcntl(raw, F_GETFL) & ~O_NONBLOCK) == 0)
    let reader = try Background { [arena] in
      var message = uffd_msg()
      let count = withUnsafeMutablePointer(to: &message) { pointer in
        var vector = iovec(iov_base: pointer, iov_len: 32)
        return preadv2(arena.userfaultfd.raw, &vector, 1, -1, Linux.RWF_NOWAIT)
      }
      return (count, errno, message.event)
    }
    #expect(try #require(reader.wait()) == (-1, EAGAIN, 0))
    var poll = pollfd(fd: raw, events: Int16(POLLIN), revents: 0)
    #expect(Glibc.poll(&poll, 1, 0) == 1 && poll.revents == Int16(POLLERR))
    let vcpu = try arena.loading(0)
    try #require(eventually { arena.pendingFaults == 1 })
    var message = uffd_msg()
    let count = withUnsafeMutablePointer(to: &message) { pointer in
      var vector = iovec(iov_base: pointer, iov_len: 32)
      return preadv2(raw, &vector, 1, -1, Linux.RWF_NOWAIT)
    }
    #expect(count == 32 && message.event == UFFD.EVENT_PAGEFAULT)
    #expect(fcntl(raw, F_SETFL, fcntl(raw, F_GETFL) | O_NONBLOCK) == 0)
    #expect(arena.copy(4, 0..<1).errorNumber == 0)
    #expect(vcpu.wait() == 4)
  }

  // MARK: Death

  @Test("a dead process: COPY, ZEROPAGE, WRITEPROTECT ESRCH; REGISTER, UNREGISTER ENOMEM; WAKE 0; no poll event")
  func deadProcess() throws {
    let child = try Child { inside in
      let arena = try Arena(pages: 2)
      inside.tell(arena.userfaultfd.raw)
      for half in [arena.word(0) >> 32, arena.word(0) & 0xFFFF_FFFF] {
        inside.tell(Int32(truncatingIfNeeded: half))
      }
      inside.waitForEver()
    }
    let userfaultfd = try child.take(try #require(child.hear()))
    let high = UInt64(UInt32(bitPattern: try #require(child.hear())))
    let address = high << 32 | UInt64(UInt32(bitPattern: try #require(child.hear())))
    let range = uffdio_range(start: address, len: UInt64(Machinery.pageBytes))
    let page = try MemoryMapping(anonymousBytes: Machinery.pageBytes, operation: "mapping")
    func call<Request>(_ number: UInt, _ request: Request) -> Int32 {
      var request = request
      return withUnsafeMutablePointer(to: &request) { ioctl(userfaultfd.raw, number, $0) } == 0 ? 0 : errno
    }
    let copy = uffdio_copy(dst: address, src: UInt64(UInt(bitPattern: page.address)), len: range.len)
    #expect(call(UFFD.UFFDIO_COPY, copy) == 0)
    #expect(child.handle.isAlive)
    #expect(child.end(signal: SIGKILL) == .signal(SIGKILL))
    #expect(!child.handle.isAlive)
    #expect(call(UFFD.UFFDIO_COPY, copy) == ESRCH)
    #expect(call(UFFD.UFFDIO_ZEROPAGE, uffdio_fill(range: range)) == ESRCH)
    #expect(call(UFFD.UFFDIO_POISON, uffdio_fill(range: range)) == ESRCH)
    #expect(call(UFFD.UFFDIO_WRITEPROTECT, uffdio_writeprotect(range: range, mode: 1)) == ESRCH)
    #expect(call(UFFD.UFFDIO_REGISTER, uffdio_register(range: range, mode: Arena.modes)) == ENOMEM)
    #expect(call(UFFD.UFFDIO_UNREGISTER, range) == ENOMEM)
    #expect(call(UFFD.UFFDIO_WAKE, range) == 0)
    var poll = pollfd(fd: userfaultfd.raw, events: Int16(POLLIN), revents: 0)
    #expect(Glibc.poll(&poll, 1, 0) == 0)
  }

  // MARK: Moved and unmapped memory. (Forks, which the test runner itself does, are forks.py's.)

  @Test("moving and unmapping wait for their events to be read; who waits at an address that is no more must be woken")
  func mappingEvents() throws {
    let arena = try Arena(
      pages: 4, features: UFFD.FEATURE_EVENT_REMOVE | UFFD.FEATURE_EVENT_REMAP | UFFD.FEATURE_EVENT_UNMAP, at: .moved)
    defer { arena.close() }
    let place = try MemoryMapping(anonymousBytes: 2 * Machinery.pageBytes, operation: "mapping")
    let mayMoveFixed = 3  // MREMAP_MAYMOVE | MREMAP_FIXED
    let move = try Background {
      c_syscall(
        SYS_mremap, Int(bitPattern: arena.address(0)), 2 * Machinery.pageBytes, 2 * Machinery.pageBytes, mayMoveFixed,
        Int(bitPattern: place.address)) == Int(bitPattern: place.address)
    }
    // The place is cleared first, which is registered nowhere; so the move is what is told.
    let remap = try #require(arena.awaitMessage())
    #expect(remap.event == UFFD.EVENT_REMAP && remap.argument0 == arena.word(0))
    #expect(remap.argument1 == UInt64(UInt(bitPattern: place.address)))
    #expect(remap.argument2 == UInt64(2 * Machinery.pageBytes))
    // The old place is unmapped after that, never before: else the move would find nothing.
    let left = try #require(arena.awaitMessage())
    #expect(left.event == UFFD.EVENT_UNMAP && left.argument0 == arena.word(0))
    #expect(move.wait() == true)
    // Faults come from the new place.
    let reader = try Background { place.address.load(as: UInt8.self) }
    let fault = try #require(arena.awaitMessage())
    #expect(fault.event == UFFD.EVENT_PAGEFAULT && fault.argument1 == UInt64(UInt(bitPattern: place.address)))
    var fill = uffdio_fill(range: uffdio_range(start: fault.argument1, len: UInt64(Machinery.pageBytes)))
    #expect(ioctl(arena.userfaultfd.raw, UFFD.UFFDIO_ZEROPAGE, &fill) == 0)
    #expect(reader.wait() == 0)

    var moved = uffdio_range(start: fault.argument1, len: UInt64(2 * Machinery.pageBytes))
    // Else the test's own unmapping would wait.
    #expect(ioctl(arena.userfaultfd.raw, UFFD.UFFDIO_UNREGISTER, &moved) == 0)

    let unmapping = try Background { munmap(arena.address(3), Machinery.pageBytes) }
    let unmap = try #require(arena.awaitMessage())
    #expect(unmap.event == UFFD.EVENT_UNMAP)
    #expect(unmap.argument0 == arena.word(3) && unmap.argument1 == arena.word(3) + UInt64(Machinery.pageBytes))
    #expect(unmapping.wait() == 0)
  }
}
