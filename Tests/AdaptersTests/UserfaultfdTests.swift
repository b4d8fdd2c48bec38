import Domain
import Glibc
import Testing

@testable import Adapters

@Suite(.enabled(if: Machinery.hasUserfaultfd)) struct UserfaultfdTests {
  @Test("a fresh userfaultfd is accepted, and the handshake done with remove events")
  func fresh() throws {
    let descriptor = try Userfaultfd.create().descriptor
    #expect(Userfaultfd.accept(descriptor) == nil)
    #expect(throws: SystemError.self) { try Userfaultfd.handshake(descriptor, features: 0) }
    // What it was set up with is accepted again.
    #expect(Userfaultfd.accept(descriptor) == nil)
  }

  @Test("one that the client has set up well is accepted as it is")
  func wellSetUp() throws {
    let descriptor = try Userfaultfd.create().descriptor
    try Userfaultfd.handshake(descriptor, features: UFFD.FEATURE_EVENT_REMOVE | 1 << 8)
    #expect(Userfaultfd.accept(descriptor) == nil)
  }

  @Test(
    "one that the client has set up in a way that loses events is refused, with what to do about it",
    arguments: [
      (0, "UFFD_FEATURE_EVENT_REMOVE"), (UFFD.FEATURE_EVENT_REMOVE | UFFD.FEATURE_SIGBUS, "UFFD_FEATURE_SIGBUS"),
      (UFFD.FEATURE_EVENT_REMOVE | UFFD.FEATURE_WP_ASYNC, "UFFD_FEATURE_WP_ASYNC"),
    ])
  func badlySetUp(features: UInt64, name: String) throws {
    let descriptor = try Userfaultfd.create().descriptor
    try Userfaultfd.handshake(descriptor, features: features)
    #expect(try #require(Userfaultfd.accept(descriptor)).contains(name))
  }

  @Test("what is no userfaultfd is refused")
  func notOne() throws {
    let event = try WakeUp().descriptor  // an anonymous inode as well
    let memory = try makeGuestFile(pages: 1)
    for descriptor in [event, memory, try EventBufferFile.make()] {
      #expect(Userfaultfd.accept(descriptor)?.contains("is not a userfaultfd") == true)
    }
  }

  private enum EventBufferFile {
    /// A memfd whose name would pass a careless look at /proc/self/fd.
    static func make() throws -> Descriptor { try makeMemoryFile("anon_inode:[userfaultfd]", bytes: 4096) }
  }

  @Test("this machine's userfaultfd has every feature that is needed")
  func missingFeature() throws {
    #expect(try Userfaultfd.missingFeature(of: try Userfaultfd.create().descriptor) == nil)
  }

  @Test("a created userfaultfd is close-on-exec and does not block")
  func flags() throws {
    let created = try Userfaultfd.create()
    #expect(!created.isUserModeOnly)
    #expect(fcntl(created.descriptor.raw, F_GETFD) & FD_CLOEXEC != 0)
    #expect(fcntl(created.descriptor.raw, F_GETFL) & O_NONBLOCK != 0)
  }

  @Test("each error has words that help")
  func advice() {
    #expect(Userfaultfd.advice(for: SystemError("x", errorNumber: ENOSYS)).contains("CONFIG_USERFAULTFD"))
    for number in [EPERM, EACCES] {
      let text = Userfaultfd.advice(for: SystemError("x", errorNumber: number))
      #expect(text.contains("/dev/userfaultfd") && text.contains("vm.unprivileged_userfaultfd"))
    }
    #expect(Userfaultfd.advice(for: SystemError("userfaultfd", errorNumber: EMFILE)).contains("Too many open files"))
  }

  @Test("the waiter hears of faults and wake-ups, keeps time, and sets O_NONBLOCK again where a client has cleared it")
  func faultWaiter() throws {
    let arena = try Arena(pages: 2)
    defer { arena.close() }
    let wakeUp = try WakeUp()
    var waiter = FaultWaiter(wakeUp: wakeUp)
    waiter.watch([arena.userfaultfd])
    func wait(_ nanoseconds: UInt64) -> Bool { waiter.wait(timeoutNanoseconds: nanoseconds) }
    #expect(!wait(0))
    #expect(!wait(1_000_000))
    wakeUp.signal()
    wakeUp.signal()
    #expect(wait(5_000_000_000))
    #expect(!wait(0))
    // Faults one upon the other: it says to read, without asking, but not for long.
    func looksAfterFaults() -> Bool {
      for _ in 0..<2 { _ = waiter.wait(timeoutNanoseconds: 0, servedSomething: true) }
      return waiter.isLooking && waiter.ready == [0]
    }
    #expect(eventually { looksAfterFaults() })
    #expect(eventually { !wait(0) })
    #expect(!waiter.isLooking && waiter.ready.isEmpty)
    let raw = arena.userfaultfd.raw
    #expect(fcntl(raw, F_SETFL, fcntl(raw, F_GETFL) & ~O_NONBLOCK) == 0)
    #expect(wait(5_000_000_000))  // POLLERR
    #expect(fcntl(raw, F_GETFL) & O_NONBLOCK != 0)
    let vcpu = try arena.loading(0)
    #expect(wait(5_000_000_000))
    #expect(waiter.ready == [0])
    #expect(arena.nextMessage()?.argument1 == arena.word(0))
    #expect(arena.copy(1, 0..<1).errorNumber == 0)
    #expect(vcpu.wait() == 1)
  }
}
