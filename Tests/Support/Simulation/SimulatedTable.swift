package import Domain

package final class SimulatedTable: RecordTable, @unchecked Sendable {  // belongs to whoever holds the baton
  private let kernel: SimulatedKernel
  private var records: [PageRecord]
  private var checksums: [PageChecksum]
  private let defects: TableDefects
  /// How many more stores it takes until the worker dies in the middle of them.
  private var storesUntilDeath: Int?
  /// What was stored by then.
  private var last: (records: [PageRecord], checksums: [PageChecksum])?

  init(kernel: SimulatedKernel, pageCount: Int) {
    self.kernel = kernel
    defects = TableDefects(kernel: kernel)
    records = [PageRecord](repeating: .guest, count: pageCount)
    checksums = [PageChecksum](repeating: PageChecksum(low: 0, high: 0), count: pageCount)
  }

  /// What a worker has left when it died: later stores of its threads, which come to their ends some time, reach nobody.
  init(leftBy other: SimulatedTable) {
    kernel = other.kernel
    defects = TableDefects(kernel: kernel)
    (records, checksums) = other.last ?? (other.records, other.checksums)
    if kernel.defect != nil { for index in records.indices { records[index] = left(records[index], PageIndex(index)) } }
  }

  /// Planted bugs in what a dead worker has left.
  private func left(_ record: PageRecord, _ page: PageIndex) -> PageRecord {
    switch kernel.defect {
    case .copiesAreRecordedEarly where kernel.earlyPunching?.contains(page) == true: return record.moved(to: .punching)
    case .punchingIsBelievedToBeGuests where record.state == .punching && kernel.guest[page.rawValue] != nil:
      return record.moved(to: .guest)
    case .halfWrittenSlotsAreTrusted:
      guard record.state == .staged, let slot = record.slot, !record.slotIsValid else { return record }
      checksums[page.rawValue] = kernel.checksum(of: kernel.readStaging(page))
      return PageRecord(.staged, slot: slot, slotIsValid: true)
    case .poisonIsForgotten where record.state == .unreadable: return .guest
    case .healingIsForgotten where record.mayFail: return .guest
    default: return record
    }
  }

  // MARK: Death between two stores

  /// The ledger changes several records under its lock, where it calls no other port; but a worker can be killed there.
  func dieAfter(stores: Int) { storesUntilDeath = stores }

  var hasDied: Bool { last != nil }

  private func countStore() {
    guard let left = storesUntilDeath else { return }
    storesUntilDeath = left - 1
    guard left == 0 else { return }
    storesUntilDeath = nil
    kernel.log("the worker's last store was the one before this")
    last = (records, checksums)
  }

  // MARK: Records

  package func record(of page: PageIndex) -> PageRecord {
    yieldOutsideOfLock()
    if kernel.defect != nil { return defects.seen(records[page.rawValue], of: page) }
    return records[page.rawValue]
  }

  package func setRecord(_ record: PageRecord, of page: PageIndex) {
    yieldOutsideOfLock()
    countStore()
    kernel.log("\(page): \(records[page.rawValue].text) → \(record.text)")
    if kernel.defect != nil, defects.drops(record, of: page, after: records[page.rawValue]) { return }
    records[page.rawValue] = record
  }

  package func nextRecorded(from start: PageIndex) -> PageIndex? {
    records.indices.dropFirst(start.rawValue).first { records[$0] != .guest }.map { PageIndex($0) }
  }

  package func checksum(of page: PageIndex) -> PageChecksum {
    yieldOutsideOfLock()
    if kernel.defect == .checksumsAreStoredLate {
      for late in defects.dueChecksums() { checksums[late.page.rawValue] = late.checksum }
    }
    return checksums[page.rawValue]
  }

  package func setChecksum(_ checksum: PageChecksum, of page: PageIndex) {
    yieldOutsideOfLock()
    countStore()
    if kernel.defect == .checksumsAreStoredLate { return defects.delay(checksum, of: page) }
    checksums[page.rawValue] = checksum
  }

  package func reset() {
    kernel.log("table.reset")
    defects.forget()
    for index in records.indices {
      records[index] = .guest
      checksums[index] = PageChecksum(low: 0, high: 0)
    }
  }

  /// A look without the ledger's lock may fall between any two steps of others.
  private func yieldOutsideOfLock() {
    guard kernel.isRunning, kernel.scheduler.current.lockHolds == 0 else { return }
    kernel.scheduler.yield()
  }
}

extension PageRecord {
  fileprivate var text: String {
    "\(state)" + (slot.map { " \($0)\(slotIsValid ? "" : " (not valid)")" } ?? "")
  }
}
