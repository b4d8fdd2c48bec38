/// One tenant's memory: its regions, its books and what the outside provides. The services share it.
package final class TenantMemory<Ports: TenantPorts>: Sendable {
  package let map: RegionMap
  package let ports: Ports
  package let ledger: PageLedger<Ports.Table, Ports.Lock>

  /// - Parameter slotLimit: how long the swap file may become, in pages.
  package init(map: RegionMap, ports: Ports, slotLimit: Int = .max) {
    self.map = map
    self.ports = ports
    ledger = PageLedger(pageCount: map.pageCount, slotLimit: slotLimit, table: ports.table, lock: ports.lock)
  }

  /// Takes in another process that maps the memory: once this is true, its faults can be served.
  ///
  /// Under the exclusive gate, so between two windows of a move: the next one protects the new process too. (A window
  /// whose protection has still to be lifted has been moved already.) Unreadable pages are poisoned when it faults there.
  ///
  /// - Returns: false while monitoring is being ended; to be asked again then.
  package func add(_ process: Ports.Process) throws(PortFailure) -> Bool {
    if !ledger.isOpen {
      // A trial, so that what the kernel would refuse at `enable` is known at once.
      try process.register()
      try process.unregister()
    }
    return try ports.gate.exclusive { () throws(PortFailure) in
      if ledger.isClosing { return false }
      if ledger.isOpen { try process.register() }
      ports.append(process)
      ledger.processJoined()
      return true
    }
  }

  /// Ends the poison of pages that came back, or were removed, in every process. (Until then they are not moved, so they are
  /// the guest's.)
  ///
  /// - Returns: false when something stands in the way, and it is to be tried again.
  package func healPages() -> Bool {
    while ledger.nextUnhealed != nil {
      let isDone = ports.gate.shared {
        // Looked up again under the gate: somebody else may have healed the page meanwhile, and even closed the books.
        guard let page = ledger.nextUnhealed else { return true }
        for process in ports.processes {
          switch process.heal(page).stop {
          case nil, .alreadyPresent, .processGone, .failed: continue
          case .eventPending, .outOfMemory: return false
          }
        }
        ledger.pageHealed(page)
        return true
      }
      guard isDone else { return false }
    }
    return true
  }

  /// Unregisters every process and closes the books.
  ///
  /// - Precondition: every page is the guest's.
  package func endMonitoring() throws(PortFailure) {
    ports.gate.exclusive { ledger.setClosing(true) }
    do throws(PortFailure) {
      for process in ports.processes where process.isAlive { try process.unregister() }
    } catch {
      ledger.setClosing(false)
      throw error
    }
    ports.gate.exclusive { ledger.close() }
  }

  /// Gives back staging memory that nobody needs any more, many runs in one hold of the gate, unless somebody waits for it.
  ///
  /// - Parameter limit: pages at most.
  /// - Returns: how many pages were given back; fewer than `limit` means that nothing is left.
  package func releaseStaging(limit: Int) throws(PortFailure) -> Int {
    var released = 0
    while released < limit {
      let before = released
      try ports.gate.held(.releasing) { () throws(PortFailure) in
        let end = before + min(map.geometry.hugePagePages, limit - before)
        for _ in 0..<Self.runsPerHold where released < end {
          if released > before, ports.gate.isWanted { break }
          let most = end - released
          guard let run = ledger.takeReleasable(limit: most) else { break }
          do throws(PortFailure) { try ports.staging.release(run) } catch {
            ledger.releaseFailed(run)
            throw error
          }
          released += run.count
        }
      }
      if released == before { break }
    }
    return released
  }

  /// The same for who brings pages back: that a copy can't be given back must not keep the next page from the guest. All of
  /// them go with the staging memory in the end.
  func releaseIfPossible(limit: Int) { do throws(PortFailure) { _ = try releaseStaging(limit: limit) } catch {} }

  /// The same, unless somebody else is at it: the kernel lets one at a time give back a file's memory, and who waits for that
  /// could copy meanwhile. More than `limit` are not left lying: then both do it.
  func releaseByTurns(limit: Int) {
    guard ledger.takeReleaseTurn(unlessMoreThan: limit) else { return }
    defer { ledger.endReleaseTurn() }
    releaseIfPossible(limit: limit)
  }

  /// A few microseconds each.
  private static var runsPerHold: Int { 128 }

  /// How a slot was read.
  package enum ReadOutcome: Equatable, Sendable {
    /// The buffer's first page holds exactly what was written.
    case right
    /// So it does, and it did not at first: the slot is not to be trusted again.
    case rightInTheEnd
    case wrong
  }

  /// Reads a slot and compares it with what was written. Tried twice: a read error may be a passing one.
  package func readVerified(_ slot: SwapSlot, of page: PageIndex, into buffer: Ports.File.Buffer) -> ReadOutcome {
    for attempt in 0..<Self.readAttempts {
      do throws(PortFailure) {
        try ports.file.read(slot..<(slot + 1), into: buffer)
        if buffer.checksum(at: 0) == ledger.checksum(of: page) { return attempt == 0 ? .right : .rightInTheEnd }
      } catch { continue }
    }
    return .wrong
  }

  /// How often a slot is read before it counts as unreadable.
  private static var readAttempts: Int { 2 }
}
