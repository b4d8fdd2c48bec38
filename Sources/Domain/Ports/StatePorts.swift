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

/// One per tenant, fair (first come, first served), shared or exclusive.
///
/// Exclusive: reading events and applying removes; moving a window of pages; dropping staged copies.
/// Shared: look-up, then install. Never held across disk I/O or a wait for the tenant.
package protocol Gate: Sendable {
  func lockShared()
  func unlockShared()
  func lockExclusive()
  func unlockExclusive()
  /// Whether somebody waits for it: who holds it can let it go early.
  var isWanted: Bool { get }
}

extension Gate {
  package func shared<Result, Failure: Error>(_ body: () throws(Failure) -> Result) throws(Failure) -> Result {
    lockShared()
    defer { unlockShared() }
    return try body()
  }

  package func exclusive<Result, Failure: Error>(_ body: () throws(Failure) -> Result) throws(Failure) -> Result {
    lockExclusive()
    defer { unlockExclusive() }
    return try body()
  }
}

/// Time that never goes back.
package protocol Clock: Sendable {
  var nowNanoseconds: UInt64 { get }
}
