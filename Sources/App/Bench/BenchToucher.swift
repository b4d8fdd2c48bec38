internal import Adapters
internal import Domain

/// Touches random pages, none twice, one read each, and times them.
final class BenchToucher: @unchecked Sendable {  // all but `isWanted` belongs to who touches
  private let memory: PatternMemory
  private let order: [UInt32]
  private var cursor = 0
  private let monitor = Monitor()
  private var isWanted = false
  private var thread: Thread?
  private var latencies: [UInt64] = []

  static let pauseMicroseconds: UInt32 = 50

  init(_ memory: PatternMemory) {
    self.memory = memory
    var order = (0..<UInt32(memory.pageCount)).map { $0 }
    for last in stride(from: order.count - 1, to: 0, by: -1) {
      order.swapAt(last, Int(SplitMix.mix(UInt64(last)) % UInt64(last + 1)))
    }
    self.order = order
  }

  /// Everything may be touched again.
  func reset() { cursor = 0 }

  func touch(_ count: Int, pauseMicroseconds: UInt32, threads: Int) throws(SystemError) -> [String: JSONValue] {
    let pages = order[cursor..<min(cursor + count, order.count)]
    cursor = pages.endIndex
    let clock = SystemClock()
    let start = clock.nowNanoseconds
    if threads == 1 {
      latencies = touch(pages, pauseMicroseconds)
    } else {
      let shares = (0..<threads).map { number in
        pages.dropFirst(pages.count * number / threads).prefix(pages.count / threads)
      }
      let running = try shares.map { share throws(SystemError) in
        try Thread(name: "touch") { [self] in _ = touch(share, pauseMicroseconds) }
      }
      for thread in running { thread.join() }
      latencies = [clock.nowNanoseconds - start]
    }
    return told(nanoseconds: clock.nowNanoseconds - start, count: pages.count)
  }

  private func touch(_ pages: ArraySlice<UInt32>, _ pauseMicroseconds: UInt32) -> [UInt64] {
    pages.map { page in
      if pauseMicroseconds > 0 { SystemClock().sleep(microseconds: pauseMicroseconds) }
      return memory.touch(Int(page))
    }
  }

  /// Touches, with pauses, until `end`.
  func begin() throws(SystemError) {
    monitor.withLock { isWanted = true }
    latencies = []
    thread = try Thread(name: "touch") { [self] in
      repeat {
        let next = order[cursor..<min(cursor + 1, order.count)]
        cursor = next.endIndex
        latencies += touch(next, Self.pauseMicroseconds)
      } while cursor < order.count && monitor.withLock { isWanted }
    }
  }

  func end() -> [String: JSONValue] {
    monitor.withLock { isWanted = false }
    thread?.join()
    thread = nil
    return told(nanoseconds: 0, count: latencies.count)
  }

  private func told(nanoseconds: UInt64, count: Int) -> [String: JSONValue] {
    latencies.sort()
    func percentile(_ percent: Int) -> JSONValue {
      latencies.isEmpty ? 0 : .unsigned(latencies[min(latencies.count - 1, latencies.count * percent / 100)])
    }
    return [
      "nanoseconds": .unsigned(nanoseconds), "count": .int(count), "p50": percentile(50), "p99": percentile(99),
    ]
  }
}
