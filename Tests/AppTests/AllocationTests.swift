import Glibc
import Synchronization
import Testing

@testable import Adapters
@testable import App

/// Allocations of a daemon's threads, as the library counts them that is preloaded into it (Tests/AllocationCounter).
private final class Allocations {
  struct Counts: Equatable {
    let faults: UInt64
    let fileFaults: UInt64
    let others: UInt64

    func hasSameFaults(as other: Counts) -> Bool { faults == other.faults && fileFaults == other.fileFaults }
  }

  private let file: Descriptor
  private let path: String

  init() throws {
    file = try makeMemoryFile("allocations", bytes: 4096)
    path = "/proc/\(getpid())/fd/\(file.raw)"
  }

  var environment: [String] {
    ["LD_PRELOAD=\(buildDirectory)/libAllocationCounter.so", "SWAP_MONITOR_ALLOCATIONS=\(path)"]
  }

  var counts: Counts {
    var words: [UInt64] = [0, 0, 0]
    #expect(pread(file.raw, &words, 24, 0) == 24)
    return Counts(faults: words[0], fileFaults: words[1], others: words[2])
  }
}

/// Removes pages again and again in a thread of its own, so that faults meet removals that are under way.
private final class Remover: Sendable {
  private let isEnding = Atomic(false)

  init(_ own: OwnTenant, _ pages: Range<Int>) throws {
    let start = UInt(own.memory.address) + UInt(own.geometry.bytes(inPages: pages.lowerBound))
    let bytes = own.geometry.bytes(inPages: pages.count)
    try Thread.runDetached(name: "remover") { [self] in
      while !isEnding.load(ordering: .relaxed) {
        madvise(UnsafeMutableRawPointer(bitPattern: start), bytes, MADV_REMOVE)
        usleep(100)
      }
    }
  }

  func end() { isEnding.store(true, ordering: .relaxed) }
}

/// Of a release build, which SWAP_MONITOR_BUILD names: without optimisation, closures and generic code allocate. (.ci/run)
@Suite(.enabled(if: hasUserfaultfd && namedBuild != nil, "it needs SWAP_MONITOR_BUILD=.build/release, once built"))
struct AllocationTests {
  /// Brings pages back by faults from staging, from the file and as zeros, and removes some.
  private func touchEverything(_ own: OwnTenant) throws {
    let count = own.memory.pageCount - Self.removedPages
    _ = try own.ask("enable")
    #expect(own.memory.mismatches(in: 0..<count / 4) == 0)
    _ = try own.ask("trim")
    #expect(own.memory.mismatches(in: count / 4..<count / 2) == 0)
    _ = try own.ask("out")
    #expect(own.memory.mismatches(in: 0..<count) == 0)
    let start = try #require(UnsafeMutableRawPointer(bitPattern: UInt(own.memory.address)))
    for page in stride(from: 0, to: count, by: 8) {
      #expect(madvise(start + own.geometry.bytes(inPages: page), own.geometry.pageBytes, MADV_REMOVE) == 0)
    }
    own.memory.fill(0..<count)
  }

  private static let removedPages = 16

  @Test func `serving faults and removes allocates nothing`() throws {
    let allocations = try Allocations()
    let daemon = try Daemon(environment: allocations.environment)
    let own = try OwnTenant(daemon, pages: 2048)
    let remover = try Remover(own, 2048 - Self.removedPages..<2048)
    defer { remover.end() }
    for _ in 0..<2 { try touchEverything(own) }
    let start = allocations.counts
    // A leaf of a bitmap is made when the first page of its 32,768 enters it: once, and for some bitmaps only when a removal
    // meets a fault. So what counts is that it ends: what allocates now and then, be it once in a thousand faults, does not.
    var before: Allocations.Counts
    var rounds = 0
    repeat {
      before = allocations.counts
      for _ in 0..<3 { try touchEverything(own) }
      rounds += 1
    } while rounds < 8 && !allocations.counts.hasSameFaults(as: before)
    let after = allocations.counts
    #expect(before.faults > 0 && before.fileFaults > 0 && after.others > before.others, "it counts at all")
    #expect(after.faults == before.faults)
    #expect(after.fileFaults == before.fileFaults)
    #expect(after.faults + after.fileFaults - start.faults - start.fileFaults <= 4, "leaves, of four bitmaps")
    remover.end()
    _ = try own.ask("unregister")
  }
}
