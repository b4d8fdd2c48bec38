import Domain

/// Planted bugs in how records and checksums are stored and looked up.
final class TableDefects {
  private static let lateNanoseconds: UInt64 = 100_000

  private struct LookUp: Hashable {
    let thread: ObjectIdentifier
    let page: PageIndex
  }

  private let kernel: SimulatedKernel
  private var checksums: [(page: PageIndex, checksum: PageChecksum, due: UInt64)] = []
  private var states: [PageIndex: (state: PageState, until: UInt64)] = [:]
  private var remembered: [LookUp: PageRecord] = [:]

  init(kernel: SimulatedKernel) { self.kernel = kernel }

  func forget() {
    checksums.removeAll()
    states.removeAll()
    remembered.removeAll()
  }

  // MARK: Checksums

  func delay(_ checksum: PageChecksum, of page: PageIndex) {
    checksums.append((page, checksum, kernel.scheduler.now + Self.lateNanoseconds))
  }

  func dueChecksums() -> [(page: PageIndex, checksum: PageChecksum, due: UInt64)] {
    let now = kernel.scheduler.now
    defer { checksums.removeAll { $0.due <= now } }
    return checksums.filter { $0.due <= now }
  }

  // MARK: Records

  /// What a look-up sees. Under the ledger's lock that is the truth.
  func seen(_ record: PageRecord, of page: PageIndex) -> PageRecord {
    let isLocked = kernel.isRunning && kernel.scheduler.current.lockHolds > 0
    switch kernel.defect {
    case .recordsAreStoredInHalves where !isLocked:
      guard let old = states[page], old.until > kernel.scheduler.now else { return record }
      return PageRecord(old.state, slot: record.slot, slotIsValid: record.slotIsValid)
    case .lookUpsAreRemembered where kernel.isRunning:
      let lookUp = LookUp(thread: ObjectIdentifier(kernel.scheduler.current), page: page)
      guard isLocked else { return remembered.removeValue(forKey: lookUp) ?? record }
      if record.state == .file { remembered[lookUp] = record }
      return record
    default: return record
    }
  }

  /// - Returns: whether the new record is not stored at all.
  func drops(_ record: PageRecord, of page: PageIndex, after old: PageRecord) -> Bool {
    switch kernel.defect {
    case .recordsAreStoredInHalves:
      states[page] = (old.state, kernel.scheduler.now + Self.lateNanoseconds)
      return false
    case .abandonedWritesAreTrusted:
      return record == .guest && old.state == .staged && old.slot != nil && !old.slotIsValid
    case .undonePunchesStayRecorded: return old.state == .punching && record == old.moved(to: .guest)
    default: return false
    }
  }
}
