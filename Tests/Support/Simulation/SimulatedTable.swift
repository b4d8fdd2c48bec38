package import Domain

package final class SimulatedTable: RecordTable, @unchecked Sendable {  // belongs to whoever holds the baton
  private let kernel: SimulatedKernel
  private var records: [PageRecord]
  private var checksums: [PageChecksum]

  init(kernel: SimulatedKernel, pageCount: Int) {
    self.kernel = kernel
    records = [PageRecord](repeating: .guest, count: pageCount)
    checksums = [PageChecksum](repeating: PageChecksum(low: 0, high: 0), count: pageCount)
  }

  package func record(of page: PageIndex) -> PageRecord {
    yieldOutsideOfLock()
    return records[page.rawValue]
  }

  package func setRecord(_ record: PageRecord, of page: PageIndex) {
    yieldOutsideOfLock()
    kernel.log("\(page): \(records[page.rawValue].text) → \(record.text)")
    records[page.rawValue] = record
  }

  package func checksum(of page: PageIndex) -> PageChecksum {
    yieldOutsideOfLock()
    return checksums[page.rawValue]
  }

  package func setChecksum(_ checksum: PageChecksum, of page: PageIndex) {
    yieldOutsideOfLock()
    checksums[page.rawValue] = checksum
  }

  package func reset() {
    kernel.log("table.reset")
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
