import Testing

@testable import Adapters

@Suite struct DiskThreadsTests {
  @Test("every request has one outcome, with threads and without", arguments: [0, 1, 3])
  func outcomes(threads: Int) {
    let disk = DiskThreads<Int, Int>(name: "disk", count: threads) { $0 * 2 }
    for round in 0..<3 {
      for request in 0..<10 { disk.start(request + round) }
      #expect(disk.underWay == 10)
      var found: [Int] = []
      while let outcome = disk.next() { found.append(outcome) }
      #expect(found.sorted() == (0..<10).map { ($0 + round) * 2 })
      disk.end()
    }
  }

  @Test("who waits for an outcome is woken by whoever carries the request out", arguments: [0, 2])
  func waiting(threads: Int) throws {
    let gate = BoundedQueue<Int>(capacity: 1)
    let disk = DiskThreads<Int, Int>(name: "disk", count: threads) { _ in gate.take() ?? -1 }
    let starter = try Background { () -> Bool in
      disk.start(0)
      return true
    }
    #expect(eventually { disk.underWay == 1 })
    let waiter = try Background { disk.next() }
    settle()
    #expect(!waiter.isDone)
    #expect(gate.offer(7))
    #expect(waiter.wait() == .some(7) && starter.wait() == true)
    #expect(disk.next() == nil)
  }
}
