internal import Adapters

/// A tenant process as who started it sees it.
class PatternGuest {
  let name: String
  let pageCount: Int
  /// What it has said as it registered.
  private(set) var registered: JSONValue = .null
  private let process: ChildProcess
  var handle: ProcessHandle { process.handle }

  /// - Parameters:
  ///   - words: what it is told besides, on its command line.
  ///   - progress: is called with how many pages are filled.
  init(
    named name: String, _ stage: Stage, pageCount: Int, _ words: [String], progress: (Int) -> Void = { _ in }
  ) throws {
    process = try ChildProcess(
      arguments: [PatternTenant.command, stage.socket, name, "\(pageCount)"] + words, keepsErrors: true)
    self.name = name
    self.pageCount = pageCount
    registered = try answer(progress)
  }

  /// Tells it what to do, and waits for its answer.
  ///
  /// - Parameter progress: is called with how many pages are done.
  @discardableResult
  func tell(_ line: String, progress: (Int) -> Void = { _ in }) throws(CommandFailure) -> JSONValue {
    process.writeLine(line)
    return try answer(progress)
  }

  func touch(
    _ count: Int, of kind: String = "any", pauseMicroseconds: UInt32 = 0, threads: Int = 1
  ) throws(CommandFailure) -> Touches {
    Touches(try tell("touch \(kind) \(count) \(pauseMicroseconds) \(threads)"))
  }

  private func answer(_ progress: (Int) -> Void) throws(CommandFailure) -> JSONValue {
    while let line = process.readLine() {
      guard let answer = JSONValue.parse(Array(line.utf8)) else { continue }
      guard let done = answer["progress"]?.int else { return answer }
      progress(done)
    }
    throw CommandFailure(message: "a tenant process has ended before its time")
  }

  /// It leaves in order.
  func leave() { process.end() }

  /// It is forgotten at once.
  func end() {
    process.handle.kill()
    process.end()
  }
}

/// What a tenant tells of its touches.
struct Touches {
  let count: Int
  let touched: Int
  let nanoseconds: UInt64
  private let answer: JSONValue

  init(_ answer: JSONValue) {
    self.answer = answer
    (count, touched) = (answer["count"]?.int ?? 0, answer["touched"]?.int ?? 0)
    nanoseconds = UInt64(answer["nanoseconds"]?.int ?? 0)
  }

  /// - Parameter percentile: "p50", "p99" or "max".
  func microseconds(_ percentile: String) -> Double { Double(answer[percentile]?.int ?? 0) / 1000 }

  var pagesPerSecond: Double { Double(touched) / (Double(max(1, nanoseconds)) / 1e9) }
}
