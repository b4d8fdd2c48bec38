internal import Adapters
internal import Domain

/// Times, in nanoseconds.
struct Latencies {
  private let sorted: [UInt64]

  init(_ nanoseconds: [UInt64]) { sorted = nanoseconds.sorted() }

  /// 0 where there is none.
  func percentile(_ percent: Int) -> UInt64 {
    sorted.isEmpty ? 0 : sorted[min(sorted.count - 1, sorted.count * percent / 100)]
  }

  var json: [String: JSONValue] {
    [
      "count": .int(sorted.count), "p50": .unsigned(percentile(50)), "p99": .unsigned(percentile(99)),
      "max": .unsigned(percentile(100)),
    ]
  }
}

/// Touches a tenant's memory and times it: random pages, none twice, one read each; or hot ones, which it writes all the time.
final class Toucher: @unchecked Sendable {  // shared are `isWanted`, and what the join hands over
  /// One page in so many is hot.
  static let hotInterval = 20
  /// Between two touches of hot pages.
  static let hotPauseMicroseconds: UInt32 = 100
  static let pauseMicroseconds: UInt32 = 50

  private let memory: PatternMemory
  /// What has not been touched, in the order in which it will be.
  private var untouched: [UInt32] = []
  private var isHot = false
  private let clock = SystemClock()
  private let monitor = Monitor()
  private var isWanted = false
  private var thread: Thread?
  private var latencies: [UInt64] = []

  init(_ memory: PatternMemory) {
    self.memory = memory
    reset()
  }

  /// Everything may be touched again.
  func reset() {
    untouched = (0..<UInt32(memory.pageCount)).map { $0 }
    for last in stride(from: untouched.count - 1, to: 0, by: -1) {
      untouched.swapAt(last, Int(SplitMix.mix(UInt64(last)) % UInt64(last + 1)))
    }
  }

  /// - Parameter kind: "data", "zero" or "any" pages; or of data, but those touches alone are told of that were page
  ///   faults ("fault"), or for which the kernel read the disk ("disk").
  func touch(
    _ kind: String, _ count: Int, pauseMicroseconds: UInt32, threads: Int
  ) throws(SystemError) -> [String: JSONValue] {
    let pages = take(kind, count)
    let start = clock.nowNanoseconds
    var latencies: [UInt64] = []
    if kind == "fault" || kind == "disk" {
      latencies = pages.compactMap { page in
        let faults = Cost.faults(thatReadTheDisk: kind == "disk")
        let nanoseconds = memory.touch(Int(page))
        return Cost.faults(thatReadTheDisk: kind == "disk") > faults ? nanoseconds : nil
      }
    } else if threads == 1 {
      latencies = touch(pages[...], pauseMicroseconds)
    } else {
      let running = try (0..<threads).map { number throws(SystemError) in
        let share = pages.dropFirst(pages.count * number / threads).prefix(pages.count / threads)
        return try Thread(name: "touch") { [self] in _ = touch(share, pauseMicroseconds) }
      }
      for thread in running { thread.join() }
    }
    let nanoseconds = clock.nowNanoseconds - start
    return Latencies(latencies).json.merging(
      ["nanoseconds": .unsigned(nanoseconds), "touched": .int(pages.count)]) { $1 }
  }

  private func take(_ kind: String, _ count: Int) -> [UInt32] {
    var taken: [UInt32] = []
    untouched.removeAll { page in
      let isZero = memory.kind(of: Int(page)) == .zero
      let isOfKind = kind == "any" || isZero == (kind == "zero")
      guard taken.count < count, isOfKind, !isHot || Int(page) % Self.hotInterval != 0 else { return false }
      taken.append(page)
      return true
    }
    return taken
  }

  private func touch(_ pages: ArraySlice<UInt32>, _ pauseMicroseconds: UInt32) -> [UInt64] {
    pages.map { page in
      if pauseMicroseconds > 0 { clock.sleep(microseconds: pauseMicroseconds) }
      return memory.touch(Int(page))
    }
  }

  // MARK: Until it is stopped

  /// Touches pages that nobody has touched, with pauses.
  func start() throws(SystemError) {
    try run { [self] in untouched.popLast().map { touch([$0], Self.pauseMicroseconds)[0] } }
  }

  /// Writes hot pages over and over; how long from one write to the next counts.
  func startHot() throws(SystemError) {
    isHot = true
    var (page, last) = (0, clock.nowNanoseconds)
    try run { [self] in
      memory.increment(page)
      page += Self.hotInterval
      if page >= memory.pageCount { page = 0 }
      let (now, before) = (clock.nowNanoseconds, last)
      last = now
      clock.sleep(microseconds: Self.hotPauseMicroseconds)
      return now - before
    }
  }

  func stop() -> [String: JSONValue] {
    monitor.withLock { isWanted = false }
    thread?.join()
    thread = nil
    isHot = false
    return Latencies(latencies).json
  }

  /// - Parameter step: nil ends it.
  private func run(_ step: @escaping () -> UInt64?) throws(SystemError) {
    isWanted = true
    latencies = []
    let step = Step(body: step)
    thread = try Thread(name: "touch") { [self] in
      while monitor.withLock({ isWanted }), let nanoseconds = step.body() { latencies.append(nanoseconds) }
    }
  }

  private struct Step: @unchecked Sendable {  // the thread's alone
    let body: () -> UInt64?
  }
}
