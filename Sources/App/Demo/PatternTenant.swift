internal import Adapters
internal import Domain

/// The tenant of demo and bench: a process of its own that owns memory, registers it with the daemon like any virtual machine
/// monitor would, touches it, and checks it in the end. It is told what to do line by line, and answers with JSON.
enum PatternTenant {
  /// Not for people: others of our commands start it.
  static let command = "pattern-tenant"
  static let crowdCommand = "tenant-crowd"
  private static let chunkPages = 8192

  /// - Parameter words: socket, name, pages and seed; pages in a zero run, and advice of huge pages.
  static func run(_ words: [String]) throws {
    guard words.count >= 4, let pages = Int(words[2]), let seed = UInt64(words[3]),
      let geometry = Machine.pageGeometry()
    else { throw UsageError(message: "\(command) is started by demo and bench") }
    ChildProcess.endWithParent()
    let memory = try PatternMemory(
      pageCount: pages, geometry: geometry, seed: seed, zeroRun: words.count > 4 ? Int(words[4]) : nil,
      advice: words.count > 5 ? PatternMemory.Advice(rawValue: words[5]) : nil)
    let client = try Client(path: words[0])
    let start = SystemClock().nowNanoseconds
    inChunks(memory) { memory.fill($0) }
    let nanoseconds = SystemClock().nowNanoseconds - start
    // One for the daemon, one for bare loops.
    let userfaultfds = try [Userfaultfd.createAsTenant(), Userfaultfd.createAsTenant()]
    try client.register(memory, as: words[1], .signal, userfaultfds[0].descriptor)
    say([
      "registered": true, "nanoseconds": .unsigned(nanoseconds),
      "user_mode_only": .bool(userfaultfds[0].isUserModeOnly),
      "address": .unsigned(memory.address), "memory": .int(Int(memory.file.raw)),
      "userfaultfd": .int(Int(userfaultfds[1].descriptor.raw)),
    ])
    try withExtendedLifetime(userfaultfds) {
      try obey(memory)
      _ = try client.ask(["op": "unregister"])
    }
  }

  /// A hundred tenants in one process, enabled, of whom nobody touches anything.
  static func runCrowd(_ words: [String]) throws {
    guard words.count == 3, let count = Int(words[1]), let pages = Int(words[2]), let geometry = Machine.pageGeometry()
    else { throw UsageError(message: "\(crowdCommand) is started by bench") }
    ChildProcess.endWithParent()
    Machine.raiseDescriptorLimit()
    let crowd = try (0..<count).map { number in
      let memory = try PatternMemory(pageCount: pages, geometry: geometry, seed: 0, zeroRun: 1)
      memory.fill(0..<pages)
      let (client, userfaultfd) = (try Client(path: words[0]), try Userfaultfd.createAsTenant().descriptor)
      try client.register(memory, as: "crowd\(number)", .caller, userfaultfd)
      _ = try client.ask(["op": "enable"])
      return (memory, client, userfaultfd)
    }
    say(["enabled": .int(crowd.count)])
    try withExtendedLifetime(crowd) {
      _ = Console.readLine()
      for (_, client, _) in crowd { _ = try client.ask(["op": "unregister"]) }
    }
  }

  private static func obey(_ memory: PatternMemory) throws {
    let everything = 0..<memory.pageCount
    let toucher = Toucher(memory)
    while let line = Console.readLine() {
      let words = line.split(separator: " ").map(String.init)
      let numbers = words.compactMap { Int($0) }
      var answer: [String: JSONValue] = ["done": true]
      switch words.first {
      case "fill": inChunks(memory, upTo: numbers.first) { memory.fill($0) }
      case "fill-zeros": memory.fillZeros(everything)
      case "fill-anew":
        try memory.remove(everything)
        inChunks(memory) { memory.fill($0) }
        if words.last == "collapse" { memory.collapse() }
      case "whole": answer = ["pages": .int(try memory.wholeHugePages())]
      case "touch" where words.count == 5 && numbers.count == 3:
        answer = try toucher.touch(
          words[1], numbers[0], pauseMicroseconds: UInt32(numbers[1]), threads: numbers[2])
      case "begin": try toucher.start()
      case "hot": try toucher.startHot()
      case "end": answer = toucher.stop()
      case "modify": for page in everything where isModified(page, in: memory) { memory.increment(page) }
      case "return": for page in everything { _ = memory.touch(page) }
      case "remove" where numbers.count == 1: try memory.remove(0..<numbers[0])
      case "page-out": try memory.pageOut()
      case "resident":
        let resident = try memory.resident()
        answer = [
          "pages": .int(resident.count { $0 }),
          "zero_pages": .int(everything.count { resident[$0] && memory.kind(of: $0) == .zero }),
        ]
      case "verify", "verify-present":
        toucher.reset()
        // Whoever reads a hole fills it; and a hole is right where zeros are expected.
        let resident = words[0] == "verify" ? nil : try memory.resident()
        var wrong = 0
        inChunks(memory) { pages in
          wrong += pages.count {
            (resident?[$0] ?? true || memory.kind(of: $0) != .zero) && memory.mismatches(in: $0..<$0 + 1) > 0
          }
        }
        answer = ["mismatches": .int(wrong)]
      default: return
      }
      say(answer)
    }
  }

  /// One word is changed in half of the pages that are not zero.
  static func isModified(_ page: Int) -> Bool { SplitMix.mix(UInt64(page) &+ 1) & 1 == 0 }

  private static func isModified(_ page: Int, in memory: PatternMemory) -> Bool {
    memory.kind(of: page) != .zero && isModified(page)
  }

  /// Says how far it is.
  private static func inChunks(_ memory: PatternMemory, upTo end: Int? = nil, _ body: (Range<Int>) -> Void) {
    let end = end ?? memory.pageCount
    for first in stride(from: 0, to: end, by: chunkPages) {
      body(first..<min(first + chunkPages, end))
      say(["progress": .int(min(first + chunkPages, end))])
    }
  }

  private static func say(_ members: [String: JSONValue]) { ClientCommands.printJSON(.object(members)) }
}

extension Client {
  /// Makes memory that this process maps a tenant.
  func register(
    _ name: String, address: UInt64, bytes: Int, file: Descriptor, freeze: FreezeMode, _ userfaultfd: Descriptor
  ) throws(CommandFailure) {
    _ = try ask(
      [
        "op": "register", "protocol": 1, "tenant": .string(name), "freeze": .string(freeze.rawValue),
        "regions": [["address": .unsigned(address), "size": .int(bytes), "memfd": 0, "offset": 0]],
      ], descriptors: [userfaultfd, file])
  }

  fileprivate func register(
    _ memory: PatternMemory, as name: String, _ freeze: FreezeMode, _ userfaultfd: Descriptor
  ) throws(CommandFailure) {
    try register(
      name, address: memory.address, bytes: memory.bytes, file: memory.file, freeze: freeze, userfaultfd)
  }
}

extension Userfaultfd {
  fileprivate static func createAsTenant() throws(CommandFailure) -> Created {
    do throws(SystemError) { return try create() } catch {
      throw CommandFailure(message: "the tenant gets no userfaultfd: \(advice(for: error))")
    }
  }
}
