package import Domain

package final class SimulatedTable: RecordTable, @unchecked Sendable {  // belongs to whoever holds the baton
  private let kernel: SimulatedKernel
  private var records: [PageRecord]
  private var checksums: [PageChecksum]
  private let defects: TableDefects

  init(kernel: SimulatedKernel, pageCount: Int) {
    self.kernel = kernel
    defects = TableDefects(kernel: kernel)
    records = [PageRecord](repeating: .guest, count: pageCount)
    checksums = [PageChecksum](repeating: PageChecksum(low: 0, high: 0), count: pageCount)
  }

  package func record(of page: PageIndex) -> PageRecord {
    yieldOutsideOfLock()
    if kernel.defect != nil { return defects.seen(records[page.rawValue], of: page) }
    return records[page.rawValue]
  }

  package func setRecord(_ record: PageRecord, of page: PageIndex) {
    yieldOutsideOfLock()
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
