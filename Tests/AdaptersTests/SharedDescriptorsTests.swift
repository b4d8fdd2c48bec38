import Domain
import Glibc
import Testing

@testable import Adapters

@_extern(c, "fork") private func c_fork() -> Int32

/// What a worker's death leaves of its descriptors.
@Suite(.enabled(if: Machinery.hasUserfaultfd && Machinery.isRoot), .serialized) struct SharedDescriptorsTests {
  /// Registers a page, and forks; its exit code is its child's, who reads the page's first byte.
  private static func forkingTenant(_ page: UnsafeMutableRawPointer, bytes: Int, modes: UInt64) throws -> Child {
    let range = uffdio_range(start: UInt64(UInt(bitPattern: page)), len: UInt64(bytes))
    // What the child uses first would wait for ever for a lock of the runtime's that another thread had at the fork.
    try Userfaultfd.handshake(Userfaultfd.create().descriptor, features: UFFD.FEATURE_EVENT_FORK)
    return try Child { inside in
      let userfaultfd = try Userfaultfd.create().descriptor
      try Userfaultfd.handshake(userfaultfd, features: UFFD.FEATURE_EVENT_FORK)
      var register = uffdio_register(range: range, mode: modes)
      guard ioctl(userfaultfd.raw, UFFD.UFFDIO_REGISTER, &register) == 0 else { return 98 }
      inside.tell(userfaultfd.raw)
      let child = c_fork()  // returns once its event was read
      if child == 0 { _exit(Int32(page.load(as: UInt8.self))) }
      var status: Int32 = 0
      waitpid(child, &status, 0)
      return status >> 8 & 0xFF
    }
  }

  @Test("a child whose fork was read by a worker that died right after is served by the next one")
  func forkedChild() throws {
    // A private page, at the same address in everybody.
    let page = try #require(mmap(nil, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))
    defer { munmap(page, 4096) }
    let address = UInt64(UInt(bitPattern: page))

    let tenant = try Self.forkingTenant(page, bytes: 4096, modes: UFFD.REGISTER_MODE_MISSING)
    let tenantsNumber = try #require(tenant.hear())
    let userfaultfd = try tenant.take(tenantsNumber)

    let keeper = getpid()
    let events = try EventBuffer()
    let worker = try Child { inside in
      let shared = try SharedDescriptors(keeper: keeper, attendant: ProcessHandle(pid: keeper))
      inside.tell(shared.process.pid)
      // (Its own descriptors are closed, as a test's child has it.)
      let copy = try #require(
        SharedDescriptors(leftWith: try ProcessHandle(pid: tenant.pid)).userfaultfd(tenantsNumber))
      while events.count == 0 { try events.fill(from: copy) }
      return withExtendedLifetime(shared) { kill(getpid(), SIGKILL) }
    }
    let left = SharedDescriptors(leftWith: try ProcessHandle(pid: try #require(worker.hear())))
    defer { left.process.kill() }
    #expect(worker.end() == .signal(SIGKILL))

    let taken = try EventBuffer(adopting: events.file)
    #expect(taken.count == 1)
    guard case .forked(let number) = taken.event(at: 0) else {
      Issue.record("the fork's event is not there")
      return
    }
    #expect(left.userfaultfd(number + 100) == nil)
    let child = try #require(left.userfaultfd(number))
    #expect(!Userfaultfd.isSame(child, userfaultfd))
    let installed = filled(0x5A).withUnsafeBytes { source in
      var copy = uffdio_copy(dst: address, src: UInt64(UInt(bitPattern: source.baseAddress)), len: 4096)
      return ioctl(child.raw, UFFD.UFFDIO_COPY, &copy)
    }
    #expect(installed == 0)
    #expect(tenant.end() == .exit(0x5A), "the child has read what it was given")
    taken.settle(at: 0)
    #expect(taken.event(at: 0) == .other && taken.count == 1)
  }

  @Test("who is forked while its parent is unregistered does not wait for pages that are there")
  func forkedWhileUnregistered() throws {
    let file = try makeGuestFile(pages: 1)
    put(filled(7), in: file, page: 0)
    let bytes = Machinery.pageBytes
    let page = try #require(mmap(nil, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file.raw, 0))
    defer { munmap(page, bytes) }
    let address = UInt64(UInt(bitPattern: page))

    let tenant = try Self.forkingTenant(
      page, bytes: bytes, modes: UFFD.REGISTER_MODE_MISSING | UFFD.REGISTER_MODE_MINOR)
    let userfaultfd = try tenant.take(try #require(tenant.hear()))
    _ = fcntl(userfaultfd.raw, F_SETFL, O_NONBLOCK)
    let inspected = try GuestFileInspection.inspect(file, number: 0, geometry: Machinery.geometry)
    let region = RegionRequest(address: address, size: UInt64(bytes), file: 0, offset: 0)
    let map = try RegionMap([region], files: [inspected], geometry: Machinery.geometry)
    let process = try UserfaultProcess(
      userfaultfd: userfaultfd, handle: try ProcessHandle(pid: tenant.pid), map: map,
      staging: StagingArea(pageCount: 1, geometry: Machinery.geometry, hasher: testHasher))
    #expect(eventually { (try? process.readEvents().count) == 1 })
    guard case .forked(let number) = process.leftEvents.event(at: 0) else {
      Issue.record("the fork's event is not there")
      return
    }
    let child = try #require(process.takeChild(number))
    child.wake(pages(0, 1))  // where it has come to the page before it was registered anew: as the fault service does
    #expect(tenant.end() == .exit(7))
  }
}
