internal import Adapters
internal import Domain

/// A tenant, as the control thread sees it: its life cycle, and who waits for what.
final class Tenant {
  /// Told apart for ever: a name may come again.
  struct Identifier: Hashable, Sendable {
    let serial: UInt64
  }

  /// A request that is answered later.
  struct Waiter {
    let connection: UInt64
    let command: TenantCommand
  }

  let identifier: Identifier
  let name: String
  let user: UInt32
  /// The connection that registered it; 0 for none.
  let connection: UInt64
  /// How it came in, where it did not ask itself.
  let attachment: Attachment?
  let freeze: FreezeMode
  /// Those that are alive, by the tokens under which the control thread watches for their deaths.
  var processes: [UInt64: UserfaultProcess] = [:]
  /// How many are being taken in.
  var joining = 0
  /// Children whose numbers are not known yet, by the tokens under which they will be watched.
  var unwatched: Set<UInt64> = []
  var isIdentifying = false
  /// What the last `enable` had to say.
  var warnings: [String] = []
  /// Why it has left pages resident.
  var shortage: MemoryShortage?
  let runtime: TenantRuntime
  var lifecycle = Lifecycle()
  /// Who is told the status when what is resident has been counted, and who has asked since that began.
  var reported: [(connection: UInt64, snapshot: StatusSnapshot)] = []
  var statusWaiters: [(connection: UInt64, snapshot: StatusSnapshot)] = []
  var isCounting = false
  let countLane = Lane("status")
  var lastResidentPages = 0
  /// Those that the log has told of.
  var stuckLanes: Set<String> = []
  /// To be answered when the running job ends.
  var waiters: [Waiter] = []
  /// To be asked again when the running job ends. One for each waiting connection at most, and one for the daemon itself.
  var queue: [Command] = []
  /// Jobs are numbered.
  var jobSerial: UInt64 = 0
  /// Of the running job.
  var options = TenantRuntime.JobOptions()
  var lastJob: TenantJob?
  var lastResult: TenantRecord.Result?
  /// Why the last operation failed.
  var failure: ProtocolError?
  /// To be forgotten once everything is back.
  var isLeaving = false
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

  init(
    identifier: Identifier, name: String, user: UInt32, connection: UInt64, attachment: Attachment?, freeze: FreezeMode,
    runtime: TenantRuntime
  ) {
    self.identifier = identifier
    self.name = name
    self.user = user
    self.connection = connection
    self.attachment = attachment
    self.freeze = freeze
    self.runtime = runtime
  }

  /// What `status` shows besides the resident pages, which take a walk over the memfd to count.
  var statusSnapshot: StatusSnapshot {
    StatusSnapshot(
      name: name, isAttached: attachment != nil, state: lifecycle.state, job: lifecycle.job, lastJob: lastJob,
      failure: failure, warnings: warnings,
      shortage: shortage, transition: runtime.transition, runtime: runtime)
  }
}

/// Made when the status is asked for, finished when what is resident has been counted.
struct StatusSnapshot {
  let name: String
  let isAttached: Bool
  let state: TenantState
  let job: TenantJob?
  let lastJob: TenantJob?
  let failure: ProtocolError?
  let warnings: [String]
  let shortage: MemoryShortage?
  /// Of the operation that ran or had ended when the status was asked for, whatever has begun since.
  let transition: StateTransition
  let runtime: TenantRuntime

  /// Whether pages are still resident that the last `enable` had no memory for.
  private var isPartial: Bool { !runtime.memory.ledger.unmoved.isEmpty }

  var allWarnings: [String] {
    var warnings = warnings
    if isPartial, let shortage {
      warnings.append("not everything was moved, because \(shortage.text). The rest stays resident")
    }
    return warnings + runtime.stuckLanes.map(\.complaint)
  }

  func reply(residentPages resident: Int, warnings more: [String]) -> JSONValue {
    let memory = runtime.memory
    let counts = memory.ledger.counts
    var members: [String: JSONValue] = [
      "ok": .bool(true), "tenant": .string(name), "state": .string(state.rawValue),
      "metrics": .object([
        "resident_pages": .int(resident), "copied_from_file_pages": .int(counts.faults.copiedFromFile),
        "copied_from_staging_pages": .int(counts.faults.copiedFromStaging), "zeroed_pages": .int(counts.faults.zeroed),
        "redundant_pages": .int(counts.faults.redundant), "staging_pages": .int(counts.staged),
        "swap_pages": .int(counts.file), "unreadable_pages": .int(counts.unreadable),
        "removed_pages": .int(counts.faults.removed),
      ]),
      "state_transition": .object([
        "pages": .int(transition.pages), "examined_pages": .int(transition.examinedPages),
        "time_ms": .int(Int(transition.nanoseconds / 1_000_000)),
      ]),
      "size": .unsigned(memory.map.sizeBytes), "page_size": .int(memory.map.geometry.pageBytes),
    ]
    if isAttached { members["attached"] = true }
    if let job { members["operation"] = .string(job.rawValue) }
    if let lastJob { members["last_operation"] = .string(lastJob.rawValue) }
    if isPartial { members["partial"] = true }
    if runtime.waitsForMemory { members["waiting"] = "memory" }
    if let failure { members["failure"] = failure.json }
    let warnings = allWarnings + more
    if !warnings.isEmpty { members["warnings"] = .array(warnings.map { .string($0) }) }
    return .object(members)
  }
}
