internal import Adapters
internal import Domain

/// One run of the benchmark: ours and the limits by turns, in every run anew.
final class BenchRun {
  let plan: BenchPlan
  let stage: BenchStage
  private let showsProgress: Bool
  private var figures: [String: BenchFigures] = [:]
  var mismatches = 0
  private var turn = 0
  private let startNanoseconds = SystemClock().nowNanoseconds

  init(plan: BenchPlan, stage: BenchStage, showsProgress: Bool) {
    self.plan = plan
    self.stage = stage
    self.showsProgress = showsProgress
  }

  func play() throws -> [String: BenchFigures] {
    for turn in 1...plan.runs {
      self.turn = turn
      try playTurn()
    }
    return figures
  }

  private func playTurn() throws {
    let zeroRun = plan.zeroRun ?? 1
    if plan.wants("tables-ready", "tables-out") { try measureTables() }
    try withGuest("bench", zeroRun) { guest in
      if plan.wants("move", "in-staging-untrimmed") { try measureStaging(guest) }
      if plan.wants("trim-zero", "in-staging-trimmed") { try measureTrim(guest, "trim-zero") }
      if plan.wants("trim-modified-warm", "trim-modified-cold") { try measureModified(guest) }
      if plan.wants("out-trimmed", "in-file-trimmed") { try measureFile(guest, isTrimmed: true) }
      if plan.wants("out-untrimmed", "in-file-untrimmed", "fault-file-p50") {
        try measureFile(guest, isTrimmed: false)
      }
      if plan.wants(
        "fault-burst-p50", "fault-burst-p99", "fault-rare-p50", "fault-rare-p99", "faults-2-threads",
        "faults-4-threads")
      {
        try measureFaults(guest)
      }
      if plan.wants("fault-out-p99", "fault-trim-p99", "fault-move-p99") { try measureLoad(guest) }
      if plan.wants("remove") { try measureRemove(guest) }
      if plan.wants("kernel-out", "kernel-fault-p50", "kernel-fault-p99") { try compareKernel(guest) }
    }
    if plan.zeroRun == nil, plan.wants("trim-zero-runs") {
      try withGuest("bench64", 64) { guest in try measureTrim(guest, "trim-zero-runs") }
    }
    if turn == plan.runs, plan.wants("idle-cpu", "idle-memory") { try measureIdle() }
  }

  func withGuest(
    _ name: String, pages: Int? = nil, _ zeroRun: Int, _ body: (BenchGuest) throws -> Void
  ) throws {
    let guest = try BenchGuest(
      named: name, socket: stage.socket, pageCount: pages ?? plan.pageCount, zeroRun: zeroRun, geometry: stage.geometry)
    defer {
      guest.end()
      // It is forgotten when the daemon has seen it die.
      while stage.knows(guest) { SystemClock().sleep(microseconds: 1000) }
    }
    try body(guest)
  }

  // MARK: Writing down

  /// How much of ours, and of the limits, work on pages takes.
  func ours(_ row: String, pages: Int, _ body: () throws -> Void) throws {
    tell(row)
    let cost = try stage.cost(body)
    add(row, nil, pages, cost)
  }

  func limit(_ row: String, _ way: String, pages: Int, _ body: () throws -> Cost) throws {
    tell("\(row), limit: \(way)")
    add(row, way, pages, try body())
  }

  private func add(_ row: String, _ way: String?, _ pages: Int, _ cost: Cost) {
    let unit = plan.rows.first { $0.name == row }?.unit
    let amount =
      unit == .pagesPerSecond ? Double(pages) : Double(stage.geometry.bytes(inPages: pages)) / Double(1 << 30)
    add(
      row, way, amount / (Double(cost.nanoseconds) / 1e9),
      processorSeconds: Double(cost.processorNanoseconds) / 1e9 / amount)
  }

  /// - Parameter way: nil for ours.
  func add(_ row: String, _ way: String?, _ value: Double, processorSeconds: Double? = nil) {
    if let way {
      figures[row, default: BenchFigures()].limits[way, default: .init()].add(value, processorSeconds: processorSeconds)
    } else {
      figures[row, default: BenchFigures()].ours.add(value, processorSeconds: processorSeconds)
    }
  }

  func object(_ row: String, _ objection: String) { figures[row, default: BenchFigures()].objection = objection }

  func tell(_ what: String) {
    guard showsProgress else { return }
    ProgressLine(
      step: "run \(turn) of \(plan.runs): \(what)", pageBytes: stage.geometry.pageBytes,
      startNanoseconds: startNanoseconds
    ).draw(pages: 0)
  }

  // MARK: Checking

  /// Every page, after every swap-in.
  ///
  /// - Parameter isTrimmed: what was zero has to be a hole.
  func verify(_ guest: BenchGuest, isTrimmed: Bool = false) throws {
    tell("comparing every page")
    if isTrimmed {
      mismatches += try guest.tell("resident")["zero_pages"]?.int ?? guest.pageCount
    }
    mismatches += try guest.tell("verify")["mismatches"]?.int ?? guest.pageCount
  }
}
