internal import Adapters

/// What torture has found.
struct TortureReport {
  var seed: UInt64 = 0
  var bytes: UInt64 = 0
  var nanoseconds: UInt64 = 0
  var increments: UInt64 = 0
  var removals: UInt64 = 0
  var checkedPages: UInt64 = 0
  var lost: UInt64 = 0
  var hung = 0
  var kills = 0
  /// In nanoseconds.
  var recoveries: [UInt64] = []
  var longestPauseNanoseconds: UInt64 = 0
  /// What a write has to wait at 999 of 1000 moments; of paced writers alone.
  var stallNanoseconds: UInt64?
  var requests = 0
  var replies: [String: Int] = [:]
  /// What else must not be, in words.
  var complaints: [String] = []

  var isGood: Bool { lost == 0 && hung == 0 && complaints.isEmpty }

  mutating func add(_ tally: TortureCommander.Tally) {
    requests += tally.requests
    replies.merge(tally.replies, uniquingKeysWith: +)
    complaints += tally.complaints
    hung += tally.hung
  }

  var json: JSONValue {
    let recovery = Latencies(recoveries)
    var members: [String: JSONValue] = [
      "ok": .bool(isGood), "seed": .unsigned(seed), "bytes": .unsigned(bytes), "seconds": .number(seconds),
      "increments": .unsigned(increments), "removed_pages": .unsigned(removals),
      "checked_pages": .unsigned(checkedPages), "lost": .unsigned(lost), "hung": .int(hung), "kills": .int(kills),
      "recovery_ms": recoveries.isEmpty
        ? [:]
        : [
          "p50": .number(Self.milliseconds(recovery.percentile(50))),
          "max": .number(Self.milliseconds(recovery.percentile(100))), "count": .int(recoveries.count),
        ],
      "longest_pause_ms": .number(Self.milliseconds(longestPauseNanoseconds)),
      "requests": .int(requests), "replies": .object(replies.mapValues { .int($0) }),
      "complaints": .array(complaints.map { .string($0) }),
    ]
    if let stallNanoseconds { members["stall_p99.9_ms"] = .number(Self.milliseconds(stallNanoseconds)) }
    return .object(members)
  }

  var text: String {
    let recovery = Latencies(recoveries)
    var lines = [
      ("increments", "\(Self.grouped(increments)), each checked"),
      ("pages removed", Self.grouped(removals)),
      ("pages compared", "\(Self.grouped(checkedPages)) at the end"),
      ("requests", "\(requests): \(outcomes)"),
      ("kills", "\(kills)"),
    ]
    if !recoveries.isEmpty {
      lines.append(
        ("recovery", "p50 \(Self.time(recovery.percentile(50))), max \(Self.time(recovery.percentile(100)))"))
    }
    if let stallNanoseconds {
      lines.append(("stall p99.9", "\(Self.time(stallNanoseconds)) of a write while memory moves"))
    }
    lines += [
      ("longest pause", "\(Self.time(longestPauseNanoseconds)) of a writer, freezes and take-overs included"),
      ("lost", "\(lost)"), ("hung", "\(hung)"), ("seed", "\(seed)"),
    ]
    return lines.map { "  \(Table.padded($0, 13))  \($1)\n" }.joined()
      + complaints.prefix(Self.shownComplaints).map { "WRONG: \($0)\n" }.joined()
  }

  /// In a word for what has gone wrong.
  var verdict: String {
    "torture: \(lost) lost, \(hung) hung, \(complaints.count.counted("complaint")); the seed was \(seed)"
  }

  private static let shownComplaints = 20
  private var seconds: Double { Double(nanoseconds) / 1e9 }

  /// How the requests ended, whatever they were.
  private var outcomes: String {
    var counts: [String: Int] = [:]
    for (key, count) in replies { counts[key.split(separator: " ").last.map(String.init) ?? key, default: 0] += count }
    return counts.sorted { $0.value > $1.value }.map { "\($0.value) \($0.key)" }.joined(separator: ", ")
  }

  private static func milliseconds(_ nanoseconds: UInt64) -> Double { Double(nanoseconds / 1000) / 1000 }

  private static func time(_ nanoseconds: UInt64) -> String {
    "\(ByteSize.decimals(milliseconds(nanoseconds), 1)) ms"
  }

  /// 1234567 as "1,234,567".
  static func grouped(_ number: UInt64) -> String {
    let digits = Array(String(number))
    return digits.enumerated().map { index, digit in
      index > 0 && (digits.count - index) % 3 == 0 ? ",\(digit)" : "\(digit)"
    }.joined()
  }
}
