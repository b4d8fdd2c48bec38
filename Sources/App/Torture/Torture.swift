internal import Adapters
internal import Domain

/// `swap-monitor torture`: a daemon and a tenant of its own; kills, commands, and every increment checked.
enum Torture {
  static func run(_ arguments: Arguments) throws {
    let (geometry, pageCount) = try arguments.memory(standard: 256 << 20, 4 << 20..<1 << 43)
    let seed = try arguments.number("seed", 0...UInt64.max) ?? Machine.randomWords(1)[0] >> 32
    let options = TortureRun.Options(
      nanoseconds: try arguments.seconds("seconds", 0.1...31_536_000) ?? 60_000_000_000,
      patienceNanoseconds: try arguments.seconds("patience", 1...3600) ?? 30_000_000_000,
      kills: !arguments.has("no-kill") && !arguments.has("stalls"), isLive: arguments.has("live"),
      measuresStalls: arguments.has("stalls"), diskMayFail: arguments.has("disk-trouble"),
      canary: arguments.value("canary"), printsJSON: arguments.has("json"))
    let stage = try Stage(
      arguments, options.diskMayFail ? ["--keep-free", "0"] : [],  // else it would stop writing before the disk is full
      keepsErrors: arguments.has("log-level"))
    defer { stage.end() }
    var run = try TortureRun(
      stage, TortureLayout(geometry: geometry, pageCount: pageCount, seed: seed), options)
    defer { run.end() }
    let report = try run.play()
    try arguments.conclude(report.json, report.text, complaint: report.isGood ? nil : report.verdict)
  }
}
