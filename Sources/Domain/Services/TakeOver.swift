/// What a worker does first with a tenant that an earlier one has left, wherever that one died.
///
/// `openBooks` waits for nobody. `begin` comes before anything is served, and may wait for the tenant, as all that touches its
/// memory; the steps come after that, while faults are being served already.
package struct TakeOver<Ports: TenantPorts>: SteppedJob {
  package private(set) var pages = 0
  /// Children whose userfaultfds died with the earlier worker: nobody can serve them.
  package private(set) var lostChildren = 0
  private let memory: TenantMemory<Ports>
  /// The pages whose protection is lifted next.
  private var cursor = PageIndex(0)
  /// Protection is lifted so many pages at a time.
  private static var pagesPerStep: Int { 1 << 13 }

  package init(memory: TenantMemory<Ports>) { self.memory = memory }

  // MARK: Before anything is served

  package func openBooks() throws(PortFailure) {
    try memory.ports.createStaging()
    memory.ledger.rebuild()
  }

  package mutating func begin() throws(PortFailure) {
    applyLeftEvents()
    try settlePunches()
    try believeGuest()
  }

  /// Their removers may have gone on: what was read is as good as done.
  private mutating func applyLeftEvents() {
    for process in memory.ports.processes {
      let batch = process.leftEvents
      for number in 0..<batch.count {
        switch batch.event(at: number) {
        case .removed(let start, let end):
          process.addresses.forEachPages(inAddresses: start, end) { memory.ledger.discard($0) }
        case .forked: lostChildren += 1
        case .missing, .writeProtected, .remapped, .unmapped, .other: break
        }
      }
      batch.clear()
    }
  }

  /// Protection still stands for these pages, so what the guest has of them is what was copied, or what a punch has left: it
  /// stays, with the copy's content. Punched again, in part, it could read as zeros for an instant, and live tenants run.
  private mutating func settlePunches() throws(PortFailure) {
    var position = PageIndex(0)
    while let run = memory.ledger.nextPunching(from: position) {
      let region = memory.map.regions[memory.map.regionIndex(of: run.lowerBound)]
      let piece = run.clamped(to: region.pages)
      var settled = piece.lowerBound
      while settled < piece.upperBound {
        let left = try memory.ports.guest.nextData(in: settled..<piece.upperBound)
        let hole = settled..<(left?.lowerBound ?? piece.upperBound)
        if !hole.isEmpty { memory.ledger.pagesStaged(hole) }
        guard let left else { break }
        try memory.ports.guest.restore(left, from: .staging)
        memory.ledger.punchUndone(left)
        settled = left.upperBound
      }
      position = piece.upperBound
    }
  }

  /// A copy that was installed, and not recorded any more.
  private func believeGuest() throws(PortFailure) {
    for region in memory.map.regions {
      var position = region.pages.lowerBound
      while position < region.pages.upperBound,
        let data = try memory.ports.guest.nextData(in: position..<region.pages.upperBound)
      {
        memory.ledger.guestHas(data)
        position = data.upperBound
      }
    }
  }

  // MARK: While faults are served

  /// Registers where the earlier worker had not come to it, lifts protection, wakes who waits for what that one had read, and
  /// poisons what can't be read.
  package mutating func step() throws(JobFailure) -> JobStep {
    if cursor == PageIndex(0) { try registerAll() }
    guard cursor < PageIndex(memory.map.pageCount) else {
      guard poisonAll() else { return .retryAfter(nanoseconds: RetryDelay.event) }
      // Nobody waits for this: it only takes memory.
      do throws(PortFailure) { try findForgottenCopies() } catch { throw .port(error) }
      return .finished
    }
    let region = memory.map.regions[memory.map.regionIndex(of: cursor)]
    let part = cursor..<min(region.pages.upperBound, cursor + Self.pagesPerStep)
    do throws(PortFailure) {
      guard try unprotectAndWake(part) else { return .retryAfter(nanoseconds: RetryDelay.event) }
    } catch { throw .port(error) }
    pages += part.count
    cursor = part.upperBound
    return .again
  }

  package mutating func abort() {}

  /// Under the gate, so that no child joins meanwhile: it has inherited what its parent had at the fork.
  ///
  /// - Returns: false when an event must be read first.
  private func unprotectAndWake(_ part: PageRange) throws(PortFailure) -> Bool {
    try memory.ports.gate.shared { () throws(PortFailure) in
      for process in memory.ports.processes where process.isAlive {
        do throws(PortFailure) {
          if try process.unprotect(part) == .eventPending { return false }
        } catch {
          // Nothing is registered there any more: nothing is protected, and nobody waits.
          if error.errorNumber != ErrorNumber.noEntry { throw error }
        }
        process.wake(part)
      }
      return true
    }
  }

  private func findForgottenCopies() throws(PortFailure) {
    let end = PageIndex(memory.map.pageCount)
    var position = PageIndex(0)
    while position < end, let copies = try memory.ports.staging.nextCopies(in: position..<end) {
      memory.ledger.copyAbandoned(copies)
      position = copies.upperBound
    }
  }

  private func registerAll() throws(JobFailure) {
    for process in memory.ports.processes where process.isAlive {
      do throws(PortFailure) { try process.register() } catch {
        if process.isAlive { throw .port(error) }
      }
    }
  }

  /// - Returns: false when something stands in the way.
  private func poisonAll() -> Bool {
    memory.ports.gate.shared {
      var position = PageIndex(0)
      while let page = memory.ledger.nextUnreadable(from: position) {
        for process in memory.ports.processes {
          switch process.poison(page).stop {
          case nil, .alreadyPresent, .processGone, .failed: continue
          case .eventPending, .outOfMemory: return false
          }
        }
        position = page + 1
      }
      return true
    }
  }
}
