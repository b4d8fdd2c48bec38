internal import Adapters
internal import Domain

/// The demo's tenant: a process of its own that owns memory, registers it with the daemon like any virtual machine monitor
/// would, goes on touching it, and checks it in the end. It is told what to do line by line, and answers with JSON.
enum DemoTenant {
  /// Not for people: `demo` starts it.
  static let command = "demo-tenant"
  /// One page in so many is touched all the time.
  static let hotPageInterval = 20
  /// Between two touches of hot pages.
  static let hotPauseMicroseconds: UInt32 = 100

  static func run(_ words: [String]) throws {
    guard words.count == 3, let pageCount = Int(words[1]), let seed = UInt64(words[2]) else {
      throw UsageError(message: "demo-tenant is started by demo")
    }
    ChildProcess.endWithParent()
    guard let geometry = Machine.pageGeometry() else {
      throw Demo.Failure(message: "this machine's page size is not a power of two")
    }
    let memory = try PatternMemory(pageCount: pageCount, geometry: geometry, seed: seed)
    let client = try Client(path: words[0])
    let start = SystemClock().nowNanoseconds
    for first in stride(from: 0, to: pageCount, by: chunkPages) {
      memory.fill(first..<min(first + chunkPages, pageCount))
      say(["done": .int(min(first + chunkPages, pageCount))])
    }
    let nanoseconds = SystemClock().nowNanoseconds - start
    let userfaultfd = try makeUserfaultfd()
    try register(memory, as: Demo.tenantName, client, userfaultfd.descriptor)
    say([
      "registered": true, "nanoseconds": .int(Int(nanoseconds)), "user_mode_only": .bool(userfaultfd.isUserModeOnly),
    ])
    try obey(memory)
    _ = try client.ask(["op": "unregister"])
    say(["left": true])
  }

  private static let chunkPages = 8192

  static func register(
    _ memory: PatternMemory, as name: String, freeze: FreezeMode = .signal, _ client: Client, _ userfaultfd: Descriptor
  ) throws(Client.Failure) {
    _ = try client.ask(
      [
        "op": "register", "protocol": 1, "tenant": .string(name), "freeze": .string(freeze.rawValue),
        "regions": [["address": .unsigned(memory.address), "size": .int(memory.bytes), "memfd": 0, "offset": 0]],
      ], descriptors: [userfaultfd, memory.file])
  }

  static func makeUserfaultfd() throws(Demo.Failure) -> Userfaultfd.Created {
    do throws(SystemError) { return try Userfaultfd.create() } catch {
      throw Demo.Failure(message: "the tenant gets no userfaultfd: \(Userfaultfd.advice(for: error))")
    }
  }

  private static func obey(_ memory: PatternMemory) throws {
    let toucher = HotToucher(memory)
    while let line = Console.readLine() {
      let words = line.split(separator: " ").map(String.init)
      switch words.first {
      case "hot": try toucher.start()
      case "cool": say(["touches": .int(toucher.stop()), "longest_nanoseconds": .int(Int(toucher.longestNanoseconds))])
      case "touch":
        guard words.count == 4, let count = Int(words[2]), let turn = Int(words[3]) else { break }
        let latencies = touch(memory, words[1] == "zero" ? [.zero] : [.random, .text], count: count, turn: turn)
        say(["latencies": .array(latencies.map { .int(Int($0)) })])
      case "verify":
        var wrong = 0
        for first in stride(from: 0, to: memory.pageCount, by: chunkPages) {
          let end = min(first + chunkPages, memory.pageCount)
          wrong += memory.mismatches(in: first..<end)
          say(["done": .int(end)])
        }
        say(["mismatches": .int(wrong)])
      default: return
      }
    }
  }

  /// Touches pages that are touched at no other time: each turn has its own.
  private static func touch(_ memory: PatternMemory, _ kinds: Set<PatternMemory.Kind>, count: Int, turn: Int)
    -> [UInt64]
  {
    var latencies: [UInt64] = []
    var state = UInt64(turn)
    for _ in 0..<(count * 16) where latencies.count < count {
      state &+= SplitMix.increment
      let page = Int(SplitMix.mix(state) % UInt64(memory.pageCount))
      guard page % hotPageInterval != 0, page % Demo.turns == turn, kinds.contains(memory.kind(of: page)) else {
        continue
      }
      latencies.append(memory.touch(page))
    }
    return latencies
  }

  static func say(_ members: [String: JSONValue]) {
    Console.write(String(decoding: JSONValue.object(members).bytes, as: UTF8.self) + "\n")
  }
}

/// Changes hot pages on a thread of its own until it is stopped.
private final class HotToucher: @unchecked Sendable {  // its fields are guarded by `monitor`
  private let memory: PatternMemory
  private let monitor = Monitor()
  private var isWanted = false
  private var touches = 0
  private var longest: UInt64 = 0
  private var thread: Thread?

  init(_ memory: PatternMemory) { self.memory = memory }

  var longestNanoseconds: UInt64 { monitor.withLock { longest } }

  func start() throws(SystemError) {
    monitor.withLock { isWanted = true }
    thread = try Thread(name: "hot") { [self] in
      let clock = SystemClock()
      var page = 0
      var last = clock.nowNanoseconds
      while monitor.withLock({ isWanted }) {
        memory.increment(page)
        let now = clock.nowNanoseconds
        monitor.withLock {
          touches += 1
          longest = max(longest, now - last)
        }
        last = now
        page = (page + DemoTenant.hotPageInterval) % memory.pageCount
        if page < DemoTenant.hotPageInterval { page = 0 }
        clock.sleep(microseconds: DemoTenant.hotPauseMicroseconds)
      }
    }
  }

  func stop() -> Int {
    monitor.withLock { isWanted = false }
    thread?.join()
    thread = nil
    return monitor.withLock { touches }
  }
}
