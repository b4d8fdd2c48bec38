import Domain
import Glibc
import Testing

@testable import Adapters

@Suite struct BoundedQueueTests {
  @Test("first in, first out, up to the capacity")
  func order() {
    let queue = BoundedQueue<Int>(capacity: 3)
    #expect([1, 2, 3, 4].map { queue.offer($0) } == [true, true, true, false])
    #expect(queue.take() == 1)
    #expect(queue.offer(5))
    #expect([queue.take(), queue.take(), queue.take()] == [2, 3, 5])
  }

  @Test("a closed queue takes nothing more, gives what it has, and then nil")
  func close() {
    let queue = BoundedQueue<Int>(capacity: 3)
    #expect(queue.offer(1))
    queue.close()
    #expect(!queue.offer(2))
    #expect(queue.take() == 1)
    #expect(queue.take() == nil)
  }

  @Test("who waits is woken by an element, and by the end")
  func waiting() throws {
    let queue = BoundedQueue<Int>(capacity: 1)
    let first = try Background { queue.take() }
    settle()
    #expect(!first.isDone)
    #expect(queue.offer(7))
    #expect(first.wait() == .some(7))
    let others = try (0..<3).map { _ in try Background { queue.take() == nil } }
    settle()
    queue.close()
    #expect(others.allSatisfy { $0.wait() == true })
  }

  @Test("nothing is lost or doubled between many threads")
  func manyThreads() throws {
    let queue = BoundedQueue<Int>(capacity: 4)
    let takers = try (0..<2).map { _ in
      try Background { () -> [Int] in
        var taken: [Int] = []
        while let element = queue.take() { taken.append(element) }
        return taken
      }
    }
    let givers = try (0..<2).map { giver in
      try Background { () -> Bool in
        for number in 0..<500 { while !queue.offer(giver * 500 + number) { sched_yield() } }
        return true
      }
    }
    #expect(givers.allSatisfy { $0.wait() == true })
    queue.close()
    let taken = takers.compactMap { $0.wait() }
    #expect(taken.flatMap { $0 }.sorted() == Array(0..<1000))
    // Each taker sees each giver's elements in order.
    for list in taken {
      for giver in 0..<2 {
        let own = list.filter { $0 / 500 == giver }
        #expect(own == own.sorted())
      }
    }
  }

  @Test("a condition's deadline ends the wait")
  func deadline() throws {
    let monitor = Monitor()
    let waited = try Background {
      monitor.withLock {
        let deadline = SystemClock().nowNanoseconds + 2_000_000
        while SystemClock().nowNanoseconds < deadline { monitor.wait(untilNanoseconds: deadline) }
        return true
      }
    }
    #expect(waited.wait() == true)
  }
}
