internal import Adapters
internal import Domain

/// The benchmark's tenant: a process of its own that owns memory, and that the daemon or bare loops work on. It is told what
/// to do line by line, and answers with JSON.
enum BenchTenant {
  /// Not for people: `bench` starts it.
  static let command = "bench-tenant"
  /// Page p is zero iff splitmix64(seed ^ (p / run)) & 3 == 0.
  static let seed: UInt64 = 0xABCD

  static func run(_ words: [String]) throws {
    guard words.count == 4, let pages = Int(words[2]), let zeroRun = Int(words[3]),
      let geometry = Machine.pageGeometry()
    else { throw UsageError(message: "bench-tenant is started by bench") }
    ChildProcess.endWithParent()
    let memory = try PatternMemory(pageCount: pages, geometry: geometry, seed: seed, zeroRun: zeroRun)
    memory.fill(0..<pages)
    let client = try Client(path: words[0])
    // One for the daemon, one for bare loops.
    let userfaultfds = try [DemoTenant.makeUserfaultfd().descriptor, DemoTenant.makeUserfaultfd().descriptor]
    try DemoTenant.register(memory, as: words[1], client, userfaultfds[0])
    DemoTenant.say([
      "address": .unsigned(memory.address), "memory": .int(Int(memory.file.raw)),
      "userfaultfd": .int(Int(userfaultfds[1].raw)),
    ])
    try withExtendedLifetime((client, userfaultfds)) { try obey(memory) }
  }

  /// A hundred tenants in one process, enabled, of whom nobody touches anything.
  static func runCrowd(_ words: [String]) throws {
    guard words.count == 3, let count = Int(words[1]), let pages = Int(words[2]), let geometry = Machine.pageGeometry()
    else { throw UsageError(message: "\(crowdCommand) is started by bench") }
    ChildProcess.endWithParent()
    Machine.raiseDescriptorLimit()
    var kept: [(PatternMemory, Client, Descriptor)] = []
    for number in 0..<count {
      let memory = try PatternMemory(pageCount: pages, geometry: geometry, seed: seed, zeroRun: 1)
      memory.fill(0..<pages)
      let client = try Client(path: words[0])
      let userfaultfd = try DemoTenant.makeUserfaultfd().descriptor
      try DemoTenant.register(memory, as: "crowd\(number)", freeze: .caller, client, userfaultfd)
      _ = try client.ask(["op": "enable"])
      kept.append((memory, client, userfaultfd))
    }
    DemoTenant.say(["enabled": .int(kept.count)])
    try withExtendedLifetime(kept) {
      _ = Console.readLine()
      for (_, client, _) in kept { _ = try client.ask(["op": "unregister"]) }
    }
  }

  static let crowdCommand = "bench-crowd"

  private static func obey(_ memory: PatternMemory) throws {
    let everything = 0..<memory.pageCount
    let toucher = BenchToucher(memory)
    while let line = Console.readLine() {
      let words = line.split(separator: " ")
      let numbers = words.dropFirst().compactMap { Int($0) }
      switch words.first {
      case "fill": memory.fill(everything.prefix(numbers.first ?? memory.pageCount))
      case "fill-zeros": memory.fillZeros(everything)
      case "touch" where numbers.count == 3:
        DemoTenant.say(try toucher.touch(numbers[0], pauseMicroseconds: UInt32(numbers[1]), threads: numbers[2]))
        continue
      case "begin": try toucher.begin()
      case "end":
        DemoTenant.say(toucher.end())
        continue
      case "modify": for page in everything where isModified(page, in: memory) { memory.increment(page) }
      case "return": for page in everything { _ = memory.touch(page) }
      case "remove" where numbers.count == 1: try memory.remove(0..<numbers[0])
      case "page-out": try memory.pageOut()
      case "resident":
        let resident = try memory.resident()
        DemoTenant.say([
          "pages": .int(resident.count { $0 }),
          "zero_pages": .int(everything.count { resident[$0] && memory.kind(of: $0) == .zero }),
        ])
        continue
      case "verify":
        toucher.reset()
        DemoTenant.say(["mismatches": .int(try mismatches(memory))])
        continue
      default: return
      }
      DemoTenant.say(["done": true])
    }
  }

  /// One word is changed in half of the pages that are not zero.
  static func isModified(_ page: Int) -> Bool { SplitMix.mix(seed &+ 1 ^ UInt64(page)) & 1 == 0 }

  private static func isModified(_ page: Int, in memory: PatternMemory) -> Bool {
    memory.kind(of: page) != .zero && isModified(page)
  }

  /// Holes are compared too, and stay holes where zeros are expected: they read as zeros.
  private static func mismatches(_ memory: PatternMemory) throws -> Int {
    let resident = try memory.resident()
    return (0..<memory.pageCount).count {
      (resident[$0] || memory.kind(of: $0) != .zero) && memory.mismatches(in: $0..<$0 + 1) > 0
    }
  }
}
