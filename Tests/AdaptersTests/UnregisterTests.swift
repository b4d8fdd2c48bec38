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
  private static let pages = 16_384

  @Test("a fault that comes while a range is unregistered is not forgotten")
  func noFaultIsForgotten() throws {
    let arena = try Arena(pages: Self.pages, registers: false)
    defer { arena.close() }
    for page in 0..<arena.pageCount { arena.store(1, page) }
    let file = try GuestFileInspection.inspect(arena.file, number: 0, geometry: Machinery.geometry)
    let region = RegionRequest(
      address: arena.word(0), size: UInt64(arena.pageCount * Machinery.pageBytes), file: 0, offset: 0)
    let map = try RegionMap([region], files: [file], geometry: Machinery.geometry)
    let process = try UserfaultProcess(
      userfaultfd: arena.userfaultfd, handle: try ProcessHandle(pid: getpid()), map: map,
      staging: StagingArea(pageCount: arena.pageCount, geometry: Machinery.geometry, hasher: testHasher))
    let touchers = try Touchers(arena)
    defer { touchers.end() }
    let clock = SystemClock()
    var lastDuration: UInt64 = 0
    for round in 1...Self.rounds {
      try #require(arena.punch(0..<Touchers.count) == 0)
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
}
