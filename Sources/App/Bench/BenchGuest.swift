internal import Adapters
internal import Domain

/// A tenant process as the benchmark sees it: what it is told to do, and its memory for bare loops.
final class BenchGuest {
  let name: String
  let bare: BareMemory
  let pageCount: Int
  private let zeroRun: Int
  private let process: ChildProcess

  init(named name: String, socket: String, pageCount: Int, zeroRun: Int, geometry: PageGeometry) throws {
    process = try ChildProcess(
      arguments: [BenchTenant.command, socket, name, "\(pageCount)", "\(zeroRun)"], keepsErrors: true)
    guard let answer = process.readLine().flatMap({ JSONValue.parse(Array($0.utf8)) }),
      let address = answer["address"]?.int, let memory = answer["memory"]?.int, let control = answer["userfaultfd"]?.int
    else { throw Bench.Failure(message: "a tenant process could not start") }
    bare = try BareMemory(
      of: process.handle, userfaultfd: control, memory: memory, address: UInt64(address), pageCount: pageCount,
      geometry: geometry)
    self.name = name
    self.pageCount = pageCount
    self.zeroRun = zeroRun
  }

  var handle: ProcessHandle { process.handle }

  /// It is forgotten at once.
  func end() {
    process.handle.kill()
    process.end()
  }

  @discardableResult
  func tell(_ line: String) throws(Bench.Failure) -> JSONValue {
    process.writeLine(line)
    guard let answer = process.readLine().flatMap({ JSONValue.parse(Array($0.utf8)) }) else {
      throw Bench.Failure(message: "a tenant process has ended before its time")
    }
    return answer
  }

  func touch(_ count: Int, pauseMicroseconds: UInt32 = 0, threads: Int = 1) throws(Bench.Failure) -> JSONValue {
    try tell("touch \(count) \(pauseMicroseconds) \(threads)")
  }

  // MARK: What its pages are

  /// A page that trim leaves.
  var isNotZero: @Sendable (Int) -> Bool {
    { [zeroRun] in SplitMix.mix(BenchTenant.seed ^ UInt64($0 / zeroRun)) & 3 != 0 }
  }

  var isAny: @Sendable (Int) -> Bool { { _ in true } }

  var notZeroPages: Int { (0..<pageCount).count(where: isNotZero) }
}
