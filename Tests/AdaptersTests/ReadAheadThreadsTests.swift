import Domain
import Glibc
import Testing

@testable import Adapters

/// In turn, because they count threads by name.
@Suite(.serialized) struct ReadAheadThreadsTests {
  private static let bufferBytes = Machinery.geometry.bytes(inPages: Machinery.geometry.hugePagePages)

  private final class Fixture {
    let staging: StagingArea
    let file: SwapFileStore
    let budget: LockedMemory
    let budgetBytes: Int
    var ahead: ReadAheadThreads?

    init(buffers: Int, slotCount: Int = 64) throws {
      let staging = StagingArea(pageCount: slotCount, geometry: Machinery.geometry, hasher: testHasher)
      try staging.create()
      for page in 0..<slotCount {
        try filled(UInt8(page + 1)).withUnsafeBytes { try staging.write($0, at: PageIndex(page)) }
      }
      self.staging = staging
      file = try SwapFileStore(
        directory: "/dev/shm", geometry: Machinery.geometry, staging: staging, floor: FreeDiskFloor(bytes: 0))
      _ = try file.put((0..<slotCount).map { PageIndex($0) }, to: slots(0, slotCount))
      budgetBytes = buffers * bufferBytes
      budget = LockedMemory(budget: PrefetchBudget(memoryLockLimitBytes: UInt64(budgetBytes)))
      ahead = try ReadAheadThreads(file: file, budget: budget, geometry: Machinery.geometry, hasher: testHasher)
    }

    /// Whether all of the budget is there.
    var isBudgetFree: Bool {
      guard budget.take(budgetBytes) else { return false }
      budget.giveBack(budgetBytes)
      return true
    }
  }

  /// (The entry of a thread that has been joined lives on for an instant.)
  private static var threads: Int {
    list("/proc/self/task").filter { readText("/proc/self/task/\($0)/comm")?.trimmingLine == "read-ahead" }.count
  }

  @Test(
    "buffers come out of the budget, six at most, and all goes back when it comes to rest",
    arguments: [1, 3, 5, 7])
  func budget(affordable: Int) throws {
    let fixture = try Fixture(buffers: affordable)
    let ahead = try #require(fixture.ahead)
    var taken: [LockedBuffer] = []
    while let buffer = ahead.takeBuffer() { taken.append(buffer) }
    #expect(taken.count == min(affordable, 6))
    #expect(taken.allSatisfy { $0.capacityPages == Machinery.geometry.hugePagePages })
    #expect(!fixture.isBudgetFree)
    // The last one is kept back: nothing is released under whoever installs from it.
    for buffer in taken.dropLast() { ahead.giveBack(buffer) }
    #expect(ahead.nextCompletion().isNone)
    ahead.rest()
    if let last = taken.last {
      #expect(!fixture.isBudgetFree)
      ahead.giveBack(last)
      ahead.rest()
    }
    #expect(fixture.isBudgetFree)
    #expect(ahead.spareBuffer.capacityPages == 1)
  }

  @Test("where others hold the budget, there is one small buffer still, and giving it back is no gift to the budget")
  func exhaustedBudget() throws {
    let fixture = try Fixture(buffers: 1)
    try #require(fixture.budget.take(fixture.budgetBytes))
    let ahead = try #require(fixture.ahead)
    let buffer = try #require(ahead.takeBuffer())
    #expect((1..<Machinery.geometry.hugePagePages).contains(buffer.capacityPages))
    #expect(ahead.takeBuffer().isNone)
    ahead.start(FileRun([slots(3, 5)]), into: buffer)
    let completion = try #require(ahead.nextCompletion())
    #expect(completion.failure == nil && completion.buffer.page(1).load(as: UInt8.self) == 5)
    ahead.giveBack(completion.buffer)
    #expect(ahead.nextCompletion().isNone)
    ahead.rest()
    #expect(!fixture.isBudgetFree)
    fixture.budget.giveBack(fixture.budgetBytes)
    #expect(fixture.isBudgetFree)
  }

  @Test("every started read completes once, with its content or its failure, and the threads end")
  func completions() throws {
    let fixture = try Fixture(buffers: 3)
    let ahead = try #require(fixture.ahead)
    var started: [SlotRange] = []
    var completed: [SlotRange] = []
    var position = 0
    while true {
      while position < 40, let buffer = ahead.takeBuffer() {
        // One of them reaches past the file's end.
        let wanted = position == 20 ? slots(60, 70) : slots(position, position + 4)
        started.append(wanted)
        let pieces = [slots(position, position + 1), slots(position + 3, position + 4)]
        ahead.start(FileRun(position == 20 ? [wanted] : pieces), into: buffer)
        position += 4
      }
      guard let completion = ahead.nextCompletion() else { break }
      completed.append(completion.run.slots)
      if completion.run.slots.upperBound.rawValue > 64 {
        #expect(completion.failure == PortFailure(.readSwapFile, errorNumber: EIO))
      } else {
        #expect(completion.failure == nil)
        for (index, slot) in completion.run.slots.enumerated() {
          #expect(completion.buffer.page(index).load(as: UInt8.self) == UInt8(slot.rawValue + 1))
          #expect(completion.buffer.checksum(at: index) == (try fixture.staging.checksum(of: PageIndex(slot.rawValue))))
        }
      }
      ahead.giveBack(completion.buffer)
    }
    ahead.rest()
    #expect(started.count == 10)
    #expect(completed.sorted { $0.lowerBound < $1.lowerBound } == started.sorted { $0.lowerBound < $1.lowerBound })
    #expect(eventually { Self.threads == 0 })
    #expect(fixture.isBudgetFree)
    #expect(ahead.nextCompletion().isNone)
  }

  @Test("it can be used again after it has come to rest")
  func again() throws {
    let fixture = try Fixture(buffers: 1)
    let ahead = try #require(fixture.ahead)
    for round in 0..<5 {
      let buffer = try #require(ahead.takeBuffer())
      ahead.start(FileRun([slots(round, round + 1)]), into: buffer)
      let completion = try #require(ahead.nextCompletion())
      #expect(completion.buffer.page(0).load(as: UInt8.self) == UInt8(round + 1))
      ahead.giveBack(completion.buffer)
      #expect(ahead.nextCompletion().isNone)
      ahead.rest()
      #expect(fixture.isBudgetFree)
    }
    #expect(eventually { Self.threads == 0 })
  }

  @Test("one that is dropped in the middle of its work leaves no thread, and gives its budget back")
  func dropped() throws {
    let fixture = try Fixture(buffers: 3)
    for wanted in [slots(0, 32), slots(32, 64)] {
      let buffer = try #require(fixture.ahead?.takeBuffer())
      fixture.ahead?.start(FileRun([wanted]), into: buffer)
    }
    fixture.ahead = nil
    #expect(eventually { Self.threads == 0 })
    #expect(fixture.isBudgetFree)
  }
}

extension Optional {
  fileprivate var isNone: Bool { if case .none = self { true } else { false } }
}
