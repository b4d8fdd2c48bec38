internal import Adapters
internal import Domain

/// `swap-monitor torture`: a daemon and a tenant of its own; kills, commands, and every increment checked.
enum Torture {
  struct Failure: Error {
    let message: String
    /// What was found, with --json.
    var report: JSONValue?
  }

  private static let defaultBytes: UInt64 = 256 << 20
  private static let smallestBytes: UInt64 = 4 << 20
  private static let defaultNanoseconds: UInt64 = 60_000_000_000
  private static let defaultPatienceNanoseconds: UInt64 = 30_000_000_000

  static func run(_ words: [String]) throws {
    let arguments = try Arguments(words, of: "torture")
    if arguments.has("help") { return Console.write(Help.torture + "\n") }
    try arguments.expectWords(0...0, "")
    guard let geometry = Machine.pageGeometry() else {
      throw Failure(message: "this machine's page size is not a power of two")
    }
    let bytes = try arguments.size("memory") ?? defaultBytes
    guard bytes >= smallestBytes, bytes < 1 << 43 else {
      throw UsageError(
        message: "--memory: \(ByteSize.text(bytes)); between \(ByteSize.text(smallestBytes)) and 8 TiB is right")
    }
    let seed = try seed(arguments)
    let nanoseconds = try arguments.seconds("seconds", 0.1...31_536_000) ?? defaultNanoseconds
    let patience = try arguments.seconds("patience", 1...3600) ?? defaultPatienceNanoseconds
    let directory = try Directory.makeTemporary()
    let socket = "\(directory)/socket"
    defer {
      Directory.removeFile(socket)
      Directory.remove(directory)
    }
    let daemon = try ChildProcess(
      arguments: serve(arguments, socket: socket), keepsErrors: arguments.has("log-level"))
    defer { daemon.end(signal: ChildProcess.terminate) }
    let pages = geometry.pages(inBytes: bytes)
    var run = try TortureRun(
      socket: socket, daemon: daemon, layout: TortureLayout(geometry: geometry, pageCount: pages, seed: seed),
      patienceNanoseconds: patience, printsJSON: arguments.has("json"))
    defer { run.end() }
    let report = try run.play(
      TortureRun.Options(
        nanoseconds: nanoseconds, kills: !arguments.has("no-kill") && !arguments.has("stalls"),
        isLive: arguments.has("live"), measuresStalls: arguments.has("stalls"),
        diskMayFail: arguments.has("disk-trouble"), canary: arguments.value("canary")))
    if arguments.has("json") {
      // One JSON object in all: a failure takes the report along.
      if report.isGood { ClientCommands.printJSON(report.json) }
    } else {
      Console.write(report.text)
    }
    guard report.isGood else { throw Failure(message: report.verdict, report: report.json) }
  }

  private static func seed(_ arguments: Arguments) throws(UsageError) -> UInt64 {
    guard let text = arguments.value("seed") else { return Machine.randomWords(1)[0] >> 32 }
    guard let seed = UInt64(text) else {
      throw UsageError(message: "--seed: \"\(text)\"; a whole number is right")
    }
    return seed
  }

  private static func serve(_ arguments: Arguments, socket: String) -> [String] {
    var words = ["serve", "--end-with-parent", "--socket", socket]
    for option in ["swap-dir", "log-level"] {
      if let value = arguments.value(option) { words += ["--\(option)", value] }
    }
    // Else the daemon would stop writing before the disk is full.
    if arguments.has("disk-trouble") { words += ["--keep-free", "0"] }
    return words
  }
}
