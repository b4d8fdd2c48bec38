internal import Adapters
internal import Domain

/// One run of the benchmark: ours and the limits by turns, in every run anew.
final class BenchRun {
  let plan: BenchPlan
  let stage: Stage
  private(set) var figures: [String: BenchFigures] = [:]
  /// What else there is to say, by what it is about; of the last run.
  private(set) var notes: [String: String] = [:]
  var mismatches = 0
  private let showsProgress: Bool
  private var turn = 0
  private let startNanoseconds = SystemClock().nowNanoseconds

  init(plan: BenchPlan, stage: Stage, showsProgress: Bool) {
    self.plan = plan
    self.stage = stage
    self.showsProgress = showsProgress
  }

  func play() throws {
    for turn in 1...plan.runs {
      self.turn = turn
      try playTurn()
    }
  }

  private func playTurn() throws {
    if plan.wants("tables-ready", "tables-out") { try measureTables() }
    try withGuest("bench") { guest in
      if plan.wants("move", "in-staging-untrimmed") {
        try measureStaging(guest, move: "move", back: "in-staging-untrimmed") {}
      }
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
      if plan.wants("kernel-out", "kernel-fault-p50", "kernel-fault-p99") {
        try compareKernel(guest)
      }
    }
    if plan.wants("huge-move", "huge-in-staging", "huge-whole") {
      try withGuest("huge", advice: .huge) { guest in try measureHuge(guest) }
    }
    if plan.zeroRun == nil, plan.wants("trim-zero-runs") {
      try withGuest("bench64", zeroRun: 64) { guest in try measureTrim(guest, "trim-zero-runs") }
    }
    if turn == plan.runs, plan.wants("idle-cpu", "idle-memory") { try measureIdle() }
  }

  func withGuest(
    _ name: String, pages: Int? = nil, zeroRun: Int? = nil, advice: PatternMemory.Advice = .small,
    _ body: (BenchGuest) throws -> Void
  ) throws {
    let guest = try BenchGuest(
      named: name, stage, pageCount: pages ?? plan.pageCount, zeroRun: zeroRun ?? plan.zeroRun ?? 1, advice: advice,
      geometry: plan.geometry)
    defer {
      guest.tenant.end()
      // It is forgotten when the daemon has seen it die.
      while stage.knows(name) { SystemClock().sleep(microseconds: 1000) }
    }
    try body(guest)
  }

  // MARK: Writing down

  /// How much of ours, and of the limits, work on pages takes.
  func ours(_ row: String, pages: Int, _ body: () throws -> Void) throws {
    tell(row)
    add(row, nil, pages, try stage.cost(body))
  }

  func limit(_ row: String, _ way: String, pages: Int, _ body: () throws -> Cost) throws {
    tell("\(row), limit: \(way)")
    add(row, way, pages, try body())
  }

  private func add(_ row: String, _ way: String?, _ pages: Int, _ cost: Cost) {
    let unit = plan.rows.first { $0.name == row }?.unit
    let amount =
      unit == .pagesPerSecond ? Double(pages) : Double(plan.geometry.bytes(inPages: pages)) / Double(1 << 30)
    add(
      row, way, amount / (Double(cost.nanoseconds) / 1e9),
      processorSeconds: Double(cost.processorNanoseconds) / 1e9 / amount)
  }

  /// - Parameter way: nil for ours.
  func add(_ row: String, _ way: String?, _ value: Double, processorSeconds: Double? = nil) {
    if let way {
      figures[row, default: .init()].limits[way, default: .init()].add(value, processorSeconds: processorSeconds)
    } else {
      figures[row, default: .init()].ours.add(value, processorSeconds: processorSeconds)
    }
  }

  func object(_ row: String, _ objection: String) { figures[row, default: .init()].objection = objection }

  func note(_ subject: String, _ text: String) { notes[subject] = text }

  func tell(_ what: String) {
    guard showsProgress else { return }
    ProgressLine(
      step: "run \(turn) of \(plan.runs): \(what)", pageBytes: plan.geometry.pageBytes,
      startNanoseconds: startNanoseconds
    ).draw(pages: 0)
  }

  // MARK: Checking

  /// Every page, after every swap-in.
  ///
  /// - Parameter isTrimmed: what was zero has to be a hole.
  func verify(_ guests: BenchGuest..., isTrimmed: Bool = false) throws {
    tell("comparing every page")
    for guest in guests {
      if isTrimmed { mismatches += try guest.tell("resident")["zero_pages"]?.int ?? guest.pageCount }
      mismatches += try guest.tell("verify-present")["mismatches"]?.int ?? guest.pageCount
    }
  }
}
