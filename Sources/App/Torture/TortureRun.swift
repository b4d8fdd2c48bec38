internal import Adapters

/// One run of torture: who takes part in it, and who watches over it.
struct TortureRun {
  struct Options {
    let nanoseconds: UInt64
    let patienceNanoseconds: UInt64
    let kills: Bool
    let isLive: Bool
    /// Paced writers, and a connection that only enables and disables.
    let measuresStalls: Bool
    let diskMayFail: Bool
    let canary: String?
    let printsJSON: Bool
  }

  private let stage: Stage
  private let layout: TortureLayout
  private let options: Options
  private let board: TortureBoard
  private let memory: Descriptor
  private var processes: [ChildProcess] = []
  private var commanders: [TortureCommander] = []
  private var report = TortureReport()
  private let clock = SystemClock()
  private let start = SystemClock().nowNanoseconds
  /// What each writer had done when it was last seen to get on.
  private var progress = [UInt64](repeating: 0, count: TortureLayout.writers)
  private var progressTimes = [UInt64](repeating: 0, count: TortureLayout.writers)
  private var nextDraw: UInt64 = 0

  private static let commanderCount: UInt64 = 3
  private static let lookMicroseconds: UInt32 = 5000
  private static let drawNanoseconds: UInt64 = 200_000_000

  init(_ stage: Stage, _ layout: TortureLayout, _ options: Options) throws {
    self.stage = stage
    self.layout = layout
    self.options = options
    board = try TortureBoard()
    let bytes = layout.geometry.bytes(inPages: layout.pageCount)
    memory = try PatternMemory.makeFile(bytes: bytes)
    report.seed = layout.seed
    report.bytes = UInt64(bytes)
  }

  mutating func play() throws -> TortureReport {
    if !options.printsJSON {
      Console.write(
        "\(ByteSize.text(report.bytes)) of memory, \(TortureLayout.processes) processes, \(TortureLayout.writers) "
          + "writers, \(commanderCount.counted("connection")); the seed is \(layout.seed)\n")
    }
    for number in 0..<TortureLayout.processes { try join(number) }
    let killer = options.kills ? TortureKiller(keeper: stage.daemon.handle, seed: layout.seed &+ 1000) : nil
    try command()
    tell("write")
    let end = clock.nowNanoseconds + options.nanoseconds
    var isGoing = true
    while isGoing && clock.nowNanoseconds < end { isGoing = try look(killer) }
    board.isOver = true
    report.increments = board.sum(.increments)
    // Commands and kills go on while everything is compared.
    isGoing = try isGoing && finish("write", killer)
    if options.measuresStalls { report.stallNanoseconds = board.stall(exceededBy: 0.001) }
    isGoing = try isGoing && finish("verify", killer)
    for commander in commanders { report.add(commander.stop()) }
    // And once more when everything is back.
    if isGoing {
      processes[0].writeLine("unregister")
      isGoing = try awaitAll([processes[0]], "unregister", nil) && finish("verify", nil)
    }
    ProgressLine.erase()
    report.nanoseconds = clock.nowNanoseconds - start
    report.increments = board.sum(.increments)
    report.removals = board.sum(.removals)
    report.checkedPages = board.sum(.checkedPages)
    report.longestPauseNanoseconds = max(report.longestPauseNanoseconds, board.takeLongest())
    // A histogram's times are rounded up.
    report.stallNanoseconds = report.stallNanoseconds.map { min($0, report.longestPauseNanoseconds) }
    report.kills = killer?.kills ?? 0
    report.recoveries = killer?.recoveries ?? []
    countLost()
    return report
  }

  /// Whatever is still running ends.
  func end() {
    for process in processes {
      process.handle.kill()
      process.end()
    }
  }

  // MARK: Who takes part

  private mutating func join(_ number: Int) throws {
    let files = "/proc/\(Machine.processIdentifier)/fd/"
    let process = try ChildProcess(
      arguments: [
        TortureTenant.command, stage.socket, "\(files)\(memory.raw)", "\(files)\(board.file.raw)", "\(number)",
        "\(layout.pageCount)", "\(layout.seed)", options.canary ?? "", options.isLive ? "live" : "signal",
      ] + (options.measuresStalls ? ["paced"] : []), keepsErrors: true)
    processes.append(process)
    guard process.readLine() == "joined" else {
      throw CommandFailure(message: "process \(number) of the tenant could not join")
    }
  }

  private var commanderCount: UInt64 { options.measuresStalls ? 1 : Self.commanderCount }

  private mutating func command() throws {
    var allowed: Set = ["wrong-state", "aborted", "freeze-failed"]
    if options.diskMayFail { allowed.formUnion(["no-space", "io-error"]) }
    for number in 0..<commanderCount {
      commanders.append(
        try TortureCommander(
          try Client(path: stage.socket), seed: layout.seed &+ 2000 &+ number,
          patienceNanoseconds: options.patienceNanoseconds,
          allowedRefusals: allowed, movesBoard: options.measuresStalls ? board : nil))
    }
  }

  /// To all processes that are alive.
  private mutating func tell(_ line: String) {
    progressTimes = progressTimes.map { _ in clock.nowNanoseconds }
    for process in processes where process.handle.isAlive { process.writeLine(line) }
  }

  // MARK: Watching

  /// Tells all processes to do something where they are not at it, and waits for its end.
  private mutating func finish(_ line: String, _ killer: TortureKiller?) throws -> Bool {
    if line != "write" {
      for writer in 0..<TortureLayout.writers { board[.rests, writer] = 0 }
      tell(line)
    }
    return try awaitAll(processes, line, killer)
  }

  private mutating func awaitAll(_ asked: [ChildProcess], _ line: String, _ killer: TortureKiller?) throws -> Bool {
    var missing = asked
    var deadline = clock.nowNanoseconds + options.patienceNanoseconds
    while !missing.isEmpty {
      missing.removeAll { $0.readLine(deadlineNanoseconds: 0) == line }
      guard try look(killer) else { return false }
      if line != "unregister" { deadline = clock.nowNanoseconds + options.patienceNanoseconds }
      guard clock.nowNanoseconds < deadline else { return fail("\(line): no reply", hung: 1) }
    }
    return true
  }

  /// Lets a little time go by, in which the worker may be killed.
  ///
  /// - Returns: false when there is no use in going on.
  private mutating func look(_ killer: TortureKiller?) throws -> Bool {
    clock.sleep(microseconds: Self.lookMicroseconds)
    if let killer, killer.isDue {
      let (board, socket) = (board, stage.socket)
      var isPatient = true
      let hasRecovered = try killer.kill(
        connect: { () throws(CommandFailure) in try Client(path: socket) },
        hasRecovered: { since in
          (0..<TortureLayout.writers).allSatisfy { board[.rests, $0] != 0 || board[.lastBegin, $0] >= since }
        },
        isPatient: {
          isPatient = isPatient && watch()
          return isPatient
        })
      if !hasRecovered { return false }
    }
    return watch()
  }

  /// - Returns: false when somebody hangs, or is dead.
  private mutating func watch() -> Bool {
    draw()
    guard stage.daemon.handle.isAlive else { return fail("the daemon has ended") }
    for (number, process) in processes.enumerated() where !process.handle.isAlive {
      return fail("process \(number) of the tenant has died")
    }
    let now = clock.nowNanoseconds
    for writer in 0..<TortureLayout.writers {
      let done = board[.increments, writer] &+ board[.checkedPages, writer]
      if done != progress[writer] || board[.rests, writer] != 0 {
        progress[writer] = done
        progressTimes[writer] = now
      } else if progressTimes[writer] != 0, now - progressTimes[writer] > options.patienceNanoseconds {
        return fail("writer \(writer) hangs", hung: 1)
      }
    }
    return true
  }

  private mutating func fail(_ complaint: String, hung: Int = 0) -> Bool {
    report.complaints.append(complaint)
    report.hung += hung
    return false
  }

  private mutating func countLost() {
    report.lost = board.sum(.lost)
    for writer in 0..<TortureLayout.writers where board[.lost, writer] != 0 {
      report.complaints.append(
        "writer \(writer), page \(board[.lostPage, writer]): \(board[.lostFound, writer]) where "
          + "\(board[.lostExpected, writer]) had to be; \(board[.lost, writer]) such words in all")
    }
  }

  private mutating func draw() {
    let now = clock.nowNanoseconds
    guard !options.printsJSON, Console.isTerminal, now >= nextDraw else { return }
    nextDraw = now + Self.drawNanoseconds
    let step =
      "\(TortureReport.grouped(board.sum(.increments))) increments, \(board.sum(.lost)) lost, "
      + "\(commanders.reduce(0) { $0 + $1.current.requests }) requests"
    ProgressLine(step: step, pageBytes: layout.geometry.pageBytes, startNanoseconds: start).draw(pages: 0)
  }
}
