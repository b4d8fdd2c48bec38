import Domain
import Glibc
import Synchronization
import Testing

@testable import Adapters

/// Threads that touch a page each, once a round, a while after they are told to.
private final class Touchers: Sendable {
  static let count = 2
  private let round = Atomic(0)
  private let delayNanoseconds = Atomic(UInt64(0))
  private let finished = Atomic(0)

  /// - Parameter arena: its first pages are touched.
  init(_ arena: Arena) throws {
    for page in 0..<Self.count {
      try Thread.runDetached(name: "toucher") { [self] in
        let clock = SystemClock()
        var seen = 0
        while seen >= 0 {
          let current = round.load(ordering: .acquiring)
          if current == seen { continue }
          seen = current
          let start = clock.nowNanoseconds + delayNanoseconds.load(ordering: .relaxed)
          while clock.nowNanoseconds < start {}
          _ = arena.load(page)
          finished.add(1, ordering: .acquiringAndReleasing)
        }
      }
    }
  }

  func begin(_ number: Int, delayNanoseconds delay: UInt64) {
    delayNanoseconds.store(delay, ordering: .relaxed)
    finished.store(0, ordering: .releasing)
    round.store(number, ordering: .releasing)
  }

  var allHaveFinished: Bool { finished.load(ordering: .acquiring) == Self.count }

  /// They end once they have finished this last round.
  func end() { begin(-1, delayNanoseconds: 0) }
}

/// UNREGISTER wakes who waits, and only then shuts the range for faults: a thread that faults between the two waits on, for
/// ever, unless it is woken once more.
@Suite(.enabled(if: Machinery.hasUserfaultfd), .serialized) struct UnregisterTests {
  /// Without that wake, one of the first twenty fails (seen in 15 of 15 runs, on two cores, idle and busy).
  private static let rounds = 100
  /// The kernel resets the protection of every page between the two: the more are mapped, the longer the gap.
  private static let pageCount = 16_384

  /// What the touched pages are just before.
  enum Touched: CaseIterable {
    case hole
    /// In the memfd, and not mapped.
    case unmapped
  }

  @Test("a fault that comes while a range is unregistered is not forgotten", arguments: Touched.allCases)
  func noFaultIsForgotten(touched: Touched) throws {
    let (arena, process) = try Self.tenant(pages: Self.pageCount)
    defer { arena.close() }
    let touchers = try Touchers(arena)
    defer { touchers.end() }
    let clock = SystemClock()
    var lastDuration: UInt64 = 0
    for round in 1...Self.rounds {
      try #require(arena.punch(0..<Touchers.count) == 0)
      if touched == .unmapped { for page in 0..<Touchers.count { arena.put(1, page) } }
      try process.register()
      // The moment that matters lies somewhere within the call, which takes about as long as it took before.
      let start = clock.nowNanoseconds
      touchers.begin(round, delayNanoseconds: lastDuration * UInt64(round % 16) / 16)
      try process.unregister()
      lastDuration = clock.nowNanoseconds - start
      let isOver = eventually { touchers.allHaveFinished }
      #expect(isOver, "in round \(round), \(arena.pendingFaults) threads wait for ever")
      guard isOver else { return }
    }
  }

  /// All pages are mapped.
  private static func tenant(pages: Int) throws -> (arena: Arena, process: UserfaultProcess) {
    let arena = try Arena(pages: pages, registers: false)
    for page in 0..<arena.pageCount { arena.store(1, page) }
    let file = try GuestFileInspection.inspect(arena.file, number: 0, geometry: Machinery.geometry)
    let region = RegionRequest(
      address: arena.word(0), size: UInt64(arena.pageCount * Machinery.pageBytes), file: 0, offset: 0)
    let map = try RegionMap([region], files: [file], geometry: Machinery.geometry)
    let process = try UserfaultProcess(
      userfaultfd: arena.userfaultfd, handle: try ProcessHandle(pid: getpid()), map: map,
      staging: StagingArea(pageCount: arena.pageCount, geometry: Machinery.geometry, hasher: testHasher))
    return (arena, process)
  }

  // MARK: Write access

  /// How many faults this thread takes to write to all pages.
  private func faultsOfWriting(_ arena: Arena) -> Int {
    func faults() -> Int {
      var usage = rusage()
      getrusage(RUSAGE_THREAD, &usage)
      return usage.ru_minflt
    }
    let before = faults()
    for page in 0..<arena.pageCount { arena.store(2, page) }
    return faults() - before
  }

  /// Some that have nothing to do with it.
  private static let otherFaults = 16

  @Test("UNREGISTER takes write access from what is mapped where the range is registered for write protection")
  func kernelTakesWriteAccess() throws {
    let (arena, _) = try Self.tenant(pages: 256)
    defer { arena.close() }
    #expect(faultsOfWriting(arena) < Self.otherFaults)
    #expect(arena.register() == 0)
    #expect(arena.unregister() == 0)
    #expect(faultsOfWriting(arena) >= 256)
    // Asked for a mode that it has already, the kernel changes nothing; for another one, it replaces both.
    for (modes, isKept) in [
      (UFFD.REGISTER_MODE_MISSING, false), (UFFD.REGISTER_MODE_MISSING | UFFD.REGISTER_MODE_MINOR, true),
    ] {
      #expect(arena.register() == 0)
      #expect(arena.register(modes: modes) == 0)
      #expect(arena.protect(0..<1, false) == (isKept ? ENOENT : 0))
      #expect(arena.unregister() == 0)
      #expect((faultsOfWriting(arena) < Self.otherFaults) == isKept)
    }
  }

  @Test("what is unregistered keeps its write access")
  func writeAccessIsKept() throws {
    let (arena, process) = try Self.tenant(pages: 256)
    defer { arena.close() }
    try process.register()
    #expect(try process.protect(pages(0, 256)) == .done)
    #expect(try process.unprotect(pages(0, 256)) == .done)
    // Lifting protection leaves that to the first write, too.
    let writer = try Background { [self] in faultsOfWriting(arena) }
    #expect(writer.wait() ?? 0 >= 256)
    try process.unregister()
    #expect(faultsOfWriting(arena) < Self.otherFaults)
  }

  @Test("protection that could not be lifted is no more once the range was unregistered")
  func leftProtection() throws {
    let (arena, process) = try Self.tenant(pages: 4)
    defer { arena.close() }
    try process.register()
    #expect(try process.protect(pages(0, 4)) == .done)
    #expect(arena.unregister(0..<1) == 0)
    #expect(throws: PortFailure(.protectRange, errorNumber: ENOENT)) { try process.unprotect(pages(0, 4)) }
    try process.unregister()
    try process.register()
    #expect(try arena.storing(8, 2).wait() == true)
    try process.unregister()
  }

  @Test("registered again, a range that was left on its way to be unregistered is as before")
  func registeringAgain() throws {
    let (arena, process) = try Self.tenant(pages: 4)
    defer { arena.close() }
    #expect(arena.register() == 0)
    #expect(arena.register(modes: UFFD.REGISTER_MODE_MISSING | UFFD.REGISTER_MODE_MINOR) == 0)
    #expect(arena.punch(1..<2) == 0)
    arena.put(7, 1)
    let vcpu = try arena.loading(1)
    #expect(arena.isReadable(), "in the memfd, and not mapped: a minor fault")
    try process.register()
    process.wake(pages(0, 4))
    #expect(vcpu.wait() == 7)
    #expect(try process.protect(pages(0, 4)) == .done)
    let writer = try arena.storing(8, 2)
    settle()
    #expect(!writer.isDone)
    #expect(try process.unprotect(pages(0, 4)) == .done)
    #expect(writer.wait() == true)
    try process.unregister()
  }
}
