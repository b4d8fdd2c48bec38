/// The page tables that outlive a worker: one record and one checksum per page, in memory that others can take over.
package protocol RecordTable: Sendable {
  /// Acquires: what was written before the matching `setRecord` is seen.
  func record(of page: PageIndex) -> PageRecord
  /// One store with release: the record changes as a whole, after everything that was written before.
  func setRecord(_ record: PageRecord, of page: PageIndex)
  /// The first page at or behind `start` whose record may say more than "guest": large untouched parts are passed over.
  func nextRecorded(from start: PageIndex) -> PageIndex?
  func checksum(of page: PageIndex) -> PageChecksum
  /// Written before the record that makes it valid.
  func setChecksum(_ checksum: PageChecksum, of page: PageIndex)
  /// Forgets all records and checksums, and gives their memory back.
  func reset()
}

/// Guards the ledger's private books. Held for nanoseconds, never across another port's call.
package protocol LedgerLock: Sendable {
  func lock()
  func unlock()
}

/// What a gate is held for.
package enum GateHold: CaseIterable, Sendable {
  /// Look-up, then install: beside others who do.
  case shared
  /// Moving a window of pages; opening and closing the books: alone.
  case exclusive
  /// Reading events, applying them and serving the faults among them; dropping staged copies: alone, but for who releases.
  case changing
  /// Giving back copies that nobody needs. Nothing but a move could need their place.
  case releasing
}

/// Who holds a gate.
package struct GateHolders: Sendable {
  private var shared = 0
  private var releasing = 0
  private var isExclusive = false
  private var isChanging = false

  package init() {}

  package var isEmpty: Bool { shared == 0 && releasing == 0 && !isExclusive && !isChanging }

  package func admit(_ hold: GateHold) -> Bool {
    switch hold {
    case .shared: !isExclusive && !isChanging
    case .exclusive: isEmpty
    case .changing: !isExclusive && !isChanging && shared == 0
    case .releasing: !isExclusive
    }
  }

  package mutating func add(_ hold: GateHold) { change(hold, by: 1) }

  package mutating func remove(_ hold: GateHold) { change(hold, by: -1) }

  private mutating func change(_ hold: GateHold, by number: Int) {
    switch hold {
    case .shared: shared += number
    case .exclusive: isExclusive = number > 0
    case .changing: isChanging = number > 0
    case .releasing: releasing += number
    }
    precondition(shared >= 0 && releasing >= 0, "the gate is let go that nobody holds")
  }
}

/// One per tenant, fair (first come, first served). Never held across disk I/O or a wait for the tenant.
package protocol Gate: Sendable {
  func lock(_ hold: GateHold)
  func unlock(_ hold: GateHold)
  /// Whether somebody waits for it: who holds it can let it go early.
  var isWanted: Bool { get }
}

extension Gate {
  package func held<Result, Failure: Error>(
    _ hold: GateHold, _ body: () throws(Failure) -> Result
  ) throws(Failure) -> Result {
    lock(hold)
    defer { unlock(hold) }
    return try body()
  }

  package func shared<Result, Failure: Error>(_ body: () throws(Failure) -> Result) throws(Failure) -> Result {
    try held(.shared, body)
  }

  package func exclusive<Result, Failure: Error>(_ body: () throws(Failure) -> Result) throws(Failure) -> Result {
    try held(.exclusive, body)
  }
}

/// Time that never goes back.
package protocol Clock: Sendable {
  var nowNanoseconds: UInt64 { get }
}
