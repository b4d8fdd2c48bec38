/// Moves a window of resident pages into staging memory, under an exclusive hold of the gate: protect (every process) → list
/// extents → copy → record *punching* → punch → see the hole → record *staged* → lift protection. What a punch leaves behind
/// (a pinned page) is restored from the staged copy while protection stands.
struct WindowMove<Ports: TenantPorts>: Sendable {
  struct Outcome: Sendable {
    let window: PageRange
    /// Moved.
    var pages = 0
    /// Its protection could not be lifted yet.
    var isProtected = false
    var end = End.moved
  }

  enum End: Equatable, Sendable {
    case moved
    /// It can't be punched whole now.
    case postponed
    /// An event must be read first.
    case eventPending
    case shortage(MemoryShortage)
    case failed(PortFailure)
  }

  let memory: TenantMemory<Ports>
  /// Live: all of it or nothing.
  let movesWhole: Bool

  /// As many as go well. Room for all has been reserved.
  func move(_ next: () -> PageRange?) -> [Outcome] {
    var outcomes: [Outcome] = []
    while let window = next() {
      let outcome = move(window, reserves: false)
      outcomes.append(outcome)
      if outcome.end != .moved || outcome.isProtected { break }
    }
    return outcomes
  }

  /// - Parameter reserves: whether room in staging memory has still to be reserved, for what is there to be moved.
  func move(_ window: PageRange, reserves: Bool) -> Outcome {
    var outcome = Outcome(window: window, isProtected: true)
    do throws(PortFailure) {
      for process in memory.ports.processes {
        if try process.protect(window) == .eventPending {
          outcome.end = .eventPending
          return outcome
        }
      }
      let pieces = try listPieces(in: window)
      let count = pieces.reduce(0) { $0 + $1.count }
      if movesWhole, memory.ledger.nextMovable(in: window) != window {
        outcome.end = .postponed
      } else if count > 0 {
        if reserves, !memory.ports.staging.reserve(count) {
          outcome.end = .shortage(.stagingLimit)
        } else {
          try copyAndPunch(pieces, of: window, &outcome)
        }
      }
      outcome.isProtected = !(try liftProtection(of: window))
    } catch { outcome.end = .failed(error) }
    return outcome
  }

  /// Pages with data for which no remove is under way. A removed page that is seen to be a hole is settled.
  private func listPieces(in window: PageRange) throws(PortFailure) -> [PageRange] {
    var pieces: [PageRange] = []
    var position = window.lowerBound
    while position < window.upperBound {
      let data = try memory.ports.guest.nextData(in: position..<window.upperBound)
      let hole = position..<(data?.lowerBound ?? window.upperBound)
      if !hole.isEmpty { memory.ledger.settleDiscards(hole) }
      guard let data else { break }
      position = data.lowerBound
      while position < data.upperBound, let run = memory.ledger.nextMovable(in: position..<data.upperBound) {
        pieces.append(run)
        position = run.upperBound
      }
      position = data.upperBound
    }
    return pieces
  }

  private func copyAndPunch(_ pieces: [PageRange], of window: PageRange, _ outcome: inout Outcome)
    throws(PortFailure)
  {
    let (guest, ledger) = (memory.ports.guest, memory.ledger)
    var zero: [[PageIndex]] = []
    do throws(PortFailure) {
      for piece in pieces { zero.append(try guest.copyToStaging(piece)) }
    } catch {
      for piece in pieces { ledger.copyAbandoned(piece) }
      guard error.errorNumber == ErrorNumber.noMemory else { throw error }
      outcome.end = .shortage(.kernel)
      return
    }
    for (piece, zero) in zip(pieces, zero) { ledger.pagesPunching(piece, zero: zero) }
    var failure: PortFailure?
    do throws(PortFailure) {
      var position = window.lowerBound
      while position < window.upperBound, let segment = ledger.nextMovable(in: position..<window.upperBound) {
        try guest.punch(segment)
        position = segment.upperBound
      }
    } catch { failure = error }
    for piece in pieces {
      do throws(PortFailure) { try settle(piece, &outcome) } catch { failure = failure ?? error }
    }
    if let failure { throw failure }
  }

  /// Holes are staged; pages that the punch left behind get their content back and stay the guest's.
  private func settle(_ piece: PageRange, _ outcome: inout Outcome) throws(PortFailure) {
    var position = piece.lowerBound
    while position < piece.upperBound {
      let rest = position..<piece.upperBound
      let left = dataOrEverything(in: rest)
      do throws(PortFailure) {
        if let left { try memory.ports.guest.restore(left, from: .staging) }
      } catch {
        // Writing to memory that is there does not fail. Should it ever: the copy is kept, and installed where a hole is.
        memory.ledger.pagesStaged(rest)
        throw error
      }
      let holes = position..<(left?.lowerBound ?? piece.upperBound)
      if !holes.isEmpty {
        memory.ledger.pagesStaged(holes)
        outcome.pages += holes.count
      }
      guard let left else { break }
      memory.ledger.punchUndone(left)
      position = left.upperBound
    }
  }

  /// What a punch left behind. Where that can't be told, everything counts as left: it is all put back.
  private func dataOrEverything(in range: PageRange) -> PageRange? {
    do throws(PortFailure) { return try memory.ports.guest.nextData(in: range) } catch { return range }
  }

  /// Under the gate.
  ///
  /// - Returns: false when an event must be read first; the window is then tried again.
  func liftProtection(of window: PageRange) throws(PortFailure) -> Bool {
    for process in memory.ports.processes {
      if try process.unprotect(window) == .eventPending { return false }
    }
    return true
  }
}
