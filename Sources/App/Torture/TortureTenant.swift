internal import Adapters
internal import Domain

/// One of the processes of a tortured tenant. It is told what to do line by line, and answers with what it has done.
enum TortureTenant {
  /// Not for people: `torture` starts it.
  static let command = "torture-tenant"
  static let name = "torture"

  static func run(_ words: [String]) throws {
    guard words.count >= 6, let process = Int(words[3]), let pages = Int(words[4]), let seed = UInt64(words[5]),
      let geometry = Machine.pageGeometry()
    else { throw UsageError(message: "torture-tenant is started by torture") }
    ChildProcess.endWithParent()
    let layout = TortureLayout(geometry: geometry, pageCount: pages, seed: seed)
    let memory = try TortureMemory(path: words[1], layout: layout)
    let board = try TortureBoard(path: words[2])
    let client = try Client(path: words[0])
    let freeze = words.count > 7 ? FreezeMode(rawValue: words[7]) ?? .signal : .signal
    let userfaultfd = try Userfaultfd.create().descriptor
    if process == 0 {
      memory.fill()
      try client.register(
        name, address: memory.address, bytes: memory.bytes, file: memory.file, freeze: freeze, userfaultfd)
    } else {
      _ = try client.ask(
        ["op": "add-process", "tenant": .string(name), "addresses": [.unsigned(memory.address)]],
        descriptors: [userfaultfd])
    }
    let first = process * TortureLayout.writersPerProcess
    let canary = words.count > 6 ? TortureWriter.Canary(rawValue: words[6]) : nil
    let writers = (first..<first + TortureLayout.writersPerProcess).map {
      TortureWriter($0, memory: memory, board: board, canary: $0 == 0 ? canary : nil, isPaced: words.count > 8)
    }
    Console.write("joined\n")
    try obey(writers, client)
  }

  private static func obey(_ writers: [TortureWriter], _ client: Client) throws {
    while let line = Console.readLine() {
      switch line {
      case "write":
        try inThreads(writers) { writer in
          do throws(SystemError) { try writer.run() } catch {
            Console.writeError("swap-monitor: torture: \(error)\n")
            Console.exit(1)
          }
        }
      case "verify": try inThreads(writers) { $0.verify() }
      case "unregister": _ = try client.ask(["op": "unregister"])
      default: return
      }
      Console.write("\(line)\n")
    }
  }

  private static func inThreads(
    _ writers: [TortureWriter], _ body: @escaping @Sendable (TortureWriter) -> Void
  ) throws(SystemError) {
    for thread in try writers.map({ writer throws(SystemError) in try Thread(name: "writer") { body(writer) } }) {
      thread.join()
    }
  }
}
