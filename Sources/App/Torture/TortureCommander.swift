internal import Adapters

/// A connection that asks for random things, several at once, and counts what is answered: every request has to have one
/// reply, with its id, in order.
final class TortureCommander: @unchecked Sendable {  // what threads share is guarded by `monitor`
  struct Tally {
    var requests = 0
    /// By operation and outcome.
    var replies: [String: Int] = [:]
    /// What must not be, in words.
    var complaints: [String] = []
    var hung = 0
  }

  private let client: Client
  private let patienceNanoseconds: UInt64
  private let allowedRefusals: Set<String>
  /// Where it tells of moves: it asks for `enable` and `disable` in turn then, one at a time.
  private let movesBoard: TortureBoard?
  private let monitor = Monitor()
  private var tally = Tally()
  private var isWanted = true
  private var random: RandomSequence
  private var thread: Thread?

  private static let operations = [
    "enable", "enable", "enable", "out", "out", "out", "trim", "trim", "disable", "status", "list",
  ]
  private static let mostAtOnce: UInt64 = 3
  private static let longestPauseMicroseconds: UInt64 = 60_000

  init(
    _ client: Client, seed: UInt64, patienceNanoseconds: UInt64, allowedRefusals: Set<String>,
    movesBoard: TortureBoard? = nil
  )
    throws(SystemError)
  {
    self.client = client
    self.movesBoard = movesBoard
    self.patienceNanoseconds = patienceNanoseconds
    self.allowedRefusals = allowedRefusals
    random = RandomSequence(seed: seed)
    thread = try Thread(name: "commander") { [self] in run() }
  }

  var current: Tally { monitor.withLock { tally } }

  func stop() -> Tally {
    monitor.withLock { isWanted = false }
    thread?.join()
    thread = nil
    return current
  }

  private func run() {
    let clock = SystemClock()
    do throws(CommandFailure) {
      while monitor.withLock({ isWanted }), try ask() {
        if random.next(2) == 0 { clock.sleep(microseconds: UInt32(random.next(Self.longestPauseMicroseconds))) }
      }
    } catch { complain(error.message) }
    if !Readable.wait(for: [client.descriptor], timeoutNanoseconds: 100_000_000).isEmpty {
      complain("a reply that nobody had asked for, or the connection's end")
    }
  }

  /// - Returns: false when a reply does not come.
  private func ask() throws(CommandFailure) -> Bool {
    var asked: [(operation: String, id: JSONValue)] = []
    if let movesBoard { return try askInTurn(movesBoard) }
    for _ in 0...random.next(Self.mostAtOnce) {
      let operation = Self.operations[Int(random.next(UInt64(Self.operations.count)))]
      let id = JSONValue.int(Int(random.next(1 << 40)))
      var request: [String: JSONValue] = ["op": .string(operation), "id": id, "tenant": .string(TortureTenant.name)]
      if random.next(2) == 0 { request["wait"] = true }
      if operation == "disable" && random.next(4) == 0 { request["slow_file_cleanup"] = true }
      try client.send(request)
      asked.append((operation, id))
    }
    return try receive(asked)
  }

  private func askInTurn(_ board: TortureBoard) throws(CommandFailure) -> Bool {
    let operation = current.requests % 2 == 0 ? "enable" : "disable"
    if operation == "enable" { board.moves += 1 }
    try client.send(["op": .string(operation), "tenant": .string(TortureTenant.name), "wait": true, "id": 1])
    let isAnswered = try receive([(operation, 1)])
    if operation == "enable" { board.moves += 1 }
    return isAnswered
  }

  private func receive(_ asked: [(operation: String, id: JSONValue)]) throws(CommandFailure) -> Bool {
    monitor.withLock { tally.requests += asked.count }
    for (operation, id) in asked {
      guard !Readable.wait(for: [client.descriptor], timeoutNanoseconds: patienceNanoseconds).isEmpty else {
        monitor.withLock { tally.hung += 1 }
        complain("\(operation): no reply")
        return false
      }
      judge(try client.receive(), operation, id)
    }
    return true
  }

  private func judge(_ reply: JSONValue, _ operation: String, _ id: JSONValue) {
    let refusal = reply["ok"]?.isTrue == true ? nil : reply["error"]?["code"]?.text ?? "malformed"
    monitor.withLock { tally.replies["\(operation) \(refusal ?? "ok")", default: 0] += 1 }
    let text = String(decoding: reply.bytes, as: UTF8.self)
    if reply["id"] != id { complain("\(operation): another id than \(id): \(text)") }
    if let refusal, !allowedRefusals.contains(refusal) { complain("\(operation): \(text)") }
  }

  private func complain(_ text: String) { monitor.withLock { tally.complaints.append(text) } }
}
