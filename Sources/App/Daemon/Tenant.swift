internal import Adapters
internal import Domain

/// A tenant, as the control thread sees it: its life cycle, and who waits for what.
final class Tenant {
  /// Told apart for ever: a name may come again.
  struct Identifier: Hashable, Sendable {
    let serial: UInt64
  }

  let identifier: Identifier
  /// What the next worker is to know of it, once it is written down.
  var record: TenantRecord
  var name: String { record.name }
  /// Those that are alive, by the tokens under which the control thread watches for their deaths.
  var processes: [UInt64: UserfaultProcess] = [:]
  /// How many are being taken in.
  var joining = 0
  /// Children whose numbers are not known yet, by the tokens under which they will be watched.
  var unwatched: Set<UInt64> = []
  var isIdentifying = false
  /// Why the last `enable` has left pages resident.
  var shortage: MemoryShortage?
  let runtime: TenantRuntime
  var lifecycle = Lifecycle()
  /// Who is told the status when what is resident has been counted, and who has asked since that began; with what is told.
  var reported: [(connection: UInt64, status: [String: JSONValue])] = []
  var statusWaiters: [(connection: UInt64, status: [String: JSONValue])] = []
  var isCounting = false
  let countLane = Lane("status")
  var lastResidentPages = 0
  /// Those that the log has told of.
  var stuckLanes: Set<String> = []
  /// To be answered when the running job ends.
  var waiters: [Command] = []
  /// To be asked again when the running job ends. One for each waiting connection at most, and one for the daemon itself.
  var queue: [Command] = []
  /// It is being left as it was found.
  var isDeparting = false
  /// What is left in its process.
  var departureWarning: String?

  var processIdentifiers: [Int32] { processes.values.compactMap { $0.handle?.pid }.sorted() }

  struct Command {
    let command: TenantCommand
    /// nil: the daemon's own wish.
    let connection: UInt64?
    let waits: Bool
    var options = TenantRuntime.JobOptions()
  }

  init(_ identifier: Identifier, _ record: TenantRecord, _ runtime: TenantRuntime) {
    self.identifier = identifier
    self.record = record
    self.runtime = runtime
  }

  // MARK: What status shows

  /// Whether pages are still resident that the last `enable` had no memory for.
  private var isPartial: Bool { !runtime.memory.ledger.unmoved.isEmpty }

  var warnings: [String] {
    var warnings = record.warnings
    if isPartial, let shortage {
      warnings.append("not everything was moved, because \(shortage.text). The rest stays resident")
    }
    return warnings + runtime.stuckLanes.map(\.complaint)
  }

  /// All but the metrics, some of which take a walk over the memfd: the operation is told of that runs or has ended when the
  /// status is asked for, whatever begins before it is answered.
  var status: [String: JSONValue] {
    let (memory, transition, warnings) = (runtime.memory, runtime.transition, warnings)
    var members: [String: JSONValue] = [
      "ok": true, "tenant": .string(name), "state": .string(lifecycle.state.rawValue),
      "state_transition": [
        "pages": .int(transition.pages), "examined_pages": .int(transition.examinedPages),
        "time_ms": .int(Int(transition.nanoseconds / 1_000_000)),
      ],
      "size": .unsigned(memory.map.sizeBytes), "page_size": .int(memory.map.geometry.pageBytes),
    ]
    if record.attachment != nil { members["attached"] = true }
    if let job = lifecycle.job { members["operation"] = .string(job.rawValue) }
    if let lastJob = record.lastJob { members["last_operation"] = .string(lastJob.rawValue) }
    if isPartial { members["partial"] = true }
    if runtime.waitsForMemory { members["waiting"] = "memory" }
    if let failure = record.failure { members["failure"] = failure.json }
    if !warnings.isEmpty { members["warnings"] = .array(warnings.map { .string($0) }) }
    return members
  }

  func metrics(residentPages: Int) -> JSONValue {
    let counts = runtime.memory.ledger.counts
    return [
      "resident_pages": .int(residentPages), "copied_from_file_pages": .int(counts.faults.copiedFromFile),
      "copied_from_staging_pages": .int(counts.faults.copiedFromStaging), "zeroed_pages": .int(counts.faults.zeroed),
      "redundant_pages": .int(counts.faults.redundant), "staging_pages": .int(counts.staged),
      "swap_pages": .int(counts.file), "unreadable_pages": .int(counts.unreadable),
      "removed_pages": .int(counts.faults.removed),
    ]
  }
}
