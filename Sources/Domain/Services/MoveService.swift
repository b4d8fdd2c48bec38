/// Moves everything resident into staging memory, window by window.
///
/// A window under one exclusive hold of the gate: protect (every process) → list extents → copy → record *punching* →
/// punch → see the hole → record *staged* → lift protection. What a punch leaves behind (a pinned page) is restored from
/// the staged copy while protection stands.
///
/// Memory: a window is copied before it is punched, so the machine must have one window more for an instant; after that
/// it has what it had. The charges move, though: from the tenant's control group (which is relieved) to the daemon's own.
/// So what must have room is the machine and the daemon's group, for each window anew; the tenant's never. Where both are
/// under one limit, that counts a window as lost which the punch gives back: on the safe side. Without room the move ends
/// with what it has, and the windows that are left stay resident.
///
/// Live, readers run all the while, and none may see what a punch leaves behind: zeros, until they are repaired. The kernel
/// takes whole huge pages out whoever holds them, and leaves data only of one that is punched in part. So windows are
/// punched whole or not at all. What can't be (`edges`) comes first, for which the processes have to be stopped; and where a
/// removal is under way, the window is tried once more at the end, and stays resident if it still is.
package struct MoveService<Ports: TenantPorts> {
  package private(set) var pages = 0
  /// While processes are stopped: how many had joined by then. Nothing is moved once there are more, which run on.
  package var joinsWhenStopped: Int?
  private let memory: TenantMemory<Ports>
  /// Windows with data, found before the first is moved; then taken from the end. Each window's extents then end where the
  /// holes of the one moved before begin: asking for the end of an extent walks over all of it (SEEK_HOLE).
  private var windows: [PageRange] = []
  /// Live: the windows that share a huge page with what is not the region's.
  private var edges: [PageRange] = []
  private let isLive: Bool
  /// Live: windows that could not be punched whole; tried again once the others are moved.
  private var postponed: [PageRange] = []
  private var isLastRound = false
  private var regionIndex = 0
  private var cursor = PageIndex(0)
  private static var windowsListedPerStep: Int { 1024 }
  /// A window whose protection could not be lifted yet.
  private var protectedWindow: PageRange?
  private var pieces: [PageRange] = []
  /// Why it has ended before everything was moved.
  package private(set) var shortage: MemoryShortage?

  package init(memory: TenantMemory<Ports>, isLive: Bool = false) {
    self.memory = memory
    self.isLive = isLive
  }

  /// - Parameter windows: what an earlier move has left; nothing else is moved.
  package init(memory: TenantMemory<Ports>, isLive: Bool, windows: [PageRange]) {
    self.init(memory: memory, isLive: isLive)
    self.windows = windows.filter { !isEdge($0) }
    edges = windows.filter { isEdge($0) }
    regionIndex = memory.map.regions.count
  }

  /// What is not moved yet, once all windows are known.
  package var windowsLeft: [PageRange] { windows + edges }
  package var holdsProtection: Bool { protectedWindow != nil }

  /// Whether the next window may only be moved while processes are stopped.
  package var needsStop: Bool { !edges.isEmpty && shortage == nil }

  /// Live: looks for windows that have to be moved first. To be called before the first step.
  package mutating func findEdges() throws(PortFailure) {
    for region in memory.map.regions.dropFirst(regionIndex) {
      let windows = MoveWindows(region: region, geometry: memory.map.geometry)
      // One that begins where the last one ends is the same.
      for page in [region.pages.lowerBound, region.pages.upperBound.advanced(by: -1)] {
        let window = windows.window(containing: page)
        guard isEdge(window), edges.last != window else { continue }
        if try memory.ports.guest.firstData(in: window) != nil { edges.append(window) }
      }
    }
  }

  /// Less than a huge page, at a bound of its region.
  private func isEdge(_ window: PageRange) -> Bool { isLive && window.count < memory.map.geometry.hugePagePages }

  package mutating func step() throws(JobFailure) -> JobStep {
    if let window = protectedWindow, !(try mapped { () throws(PortFailure) in try liftLeftProtection(of: window) }) {
      return .retryAfter(nanoseconds: RetryDelay.event)
    }
    if !needsStop, try mapped({ () throws(PortFailure) in try listWindows() }) { return .again }
    if windows.isEmpty, edges.isEmpty, !isLastRound {
      isLastRound = true
      swap(&windows, &postponed)
    }
    guard shortage == nil, let window = edges.last ?? windows.last else { return .finished }
    shortage = memory.ports.headroom.shortage(of: window.count, for: .staging)
    if shortage != nil { return .again }
    let isMoved = try mapped { () throws(PortFailure) in
      try memory.ports.gate.exclusive { () throws(PortFailure) in
        // Protection does not stop readers, who could see what a punch of pinned pages leaves behind.
        if let joinsWhenStopped, memory.ledger.joins != joinsWhenStopped { return false }
        return try move(window)
      }
    }
    if shortage == .stagingLimit, try mapped({ () throws(PortFailure) in try giveRoom() }) { shortage = nil }
    if shortage != nil { return .again }
    guard isMoved else { return .retryAfter(nanoseconds: RetryDelay.event) }
    if edges.isEmpty { windows.removeLast() } else { edges.removeLast() }
    return .again
  }

  /// Gives copies back that nobody needs any more, and that count all the same.
  ///
  /// - Returns: false where there are none.
  private func giveRoom() throws(PortFailure) -> Bool {
    try memory.releaseStaging(limit: memory.map.geometry.hugePagePages) > 0
  }

  /// Lifts what protection is left after a failure.
  ///
  /// - Returns: whether none is left.
  package mutating func liftRemainingProtection() -> Bool {
    guard let window = protectedWindow else { return true }
    do throws(PortFailure) { return try liftLeftProtection(of: window) } catch {
      protectedWindow = nil  // the range is not registered any more, or its process is dead: nothing is protected
      return true
    }
  }

  /// - Returns: false once there are no more.
  private mutating func listWindows() throws(PortFailure) -> Bool {
    for _ in 0..<Self.windowsListedPerStep {
      guard regionIndex < memory.map.regions.count else { return false }
      let region = memory.map.regions[regionIndex]
      let start = max(cursor, region.pages.lowerBound)
      if start < region.pages.upperBound,
        let data = try memory.ports.guest.firstData(in: start..<region.pages.upperBound)
      {
        let window = MoveWindows(region: region, geometry: memory.map.geometry).window(containing: data)
        if !isEdge(window) { windows.append(max(window.lowerBound, start)..<window.upperBound) }
        cursor = window.upperBound
      } else {
        regionIndex += 1
      }
    }
    return true
  }

  /// - Returns: false when an event must be read first, and nothing was moved.
  private mutating func move(_ window: PageRange) throws(PortFailure) -> Bool {
    protectedWindow = window
    for process in memory.ports.processes {
      if try process.protect(window) == .eventPending { return false }
    }
    try listPieces(in: window)
    let count = pieces.reduce(0) { $0 + $1.count }
    if isLive, edges.isEmpty, memory.ledger.nextMovable(in: window) != window {
      postponed.append(window)
    } else if count > 0 {
      if memory.ports.staging.reserve(count) {
        defer { _ = memory.ports.staging.reserve(0) }
        try copyAndPunch(window)
      } else {
        shortage = .stagingLimit
      }
    }
    _ = try liftProtection(of: window)
    return true
  }

  /// Pages with data for which no remove is under way. A removed page that is seen to be a hole is settled.
  private mutating func listPieces(in window: PageRange) throws(PortFailure) {
    pieces.removeAll(keepingCapacity: true)
    var position = window.lowerBound
    while position < window.upperBound {
      let data = try memory.ports.guest.nextData(in: position..<window.upperBound)
      let hole = position..<(data?.lowerBound ?? window.upperBound)
      if !hole.isEmpty { memory.ledger.settleDiscards(hole) }
      guard let data else { break }
      forEachMovable(in: data) { pieces.append($0) }
      position = data.upperBound
    }
  }

  private mutating func copyAndPunch(_ window: PageRange) throws(PortFailure) {
    let (guest, ledger) = (memory.ports.guest, memory.ledger)
    do throws(PortFailure) {
      for piece in pieces { try guest.copyToStaging(piece) }
    } catch {
      for piece in pieces { ledger.copyAbandoned(piece) }
      guard error.errorNumber == ErrorNumber.noMemory else { throw error }
      shortage = .kernel
      return
    }
    for piece in pieces { ledger.pagesPunching(piece) }
    var failure: PortFailure?
    do throws(PortFailure) {
      var position = window.lowerBound
      while position < window.upperBound, let segment = ledger.nextMovable(in: position..<window.upperBound) {
        try guest.punch(segment)
        position = segment.upperBound
      }
    } catch { failure = error }
    for piece in pieces {
      do throws(PortFailure) { try settle(piece) } catch { failure = failure ?? error }
    }
    if let failure { throw failure }
  }

  /// Holes are staged; pages that the punch left behind get their content back and stay the guest's.
  private mutating func settle(_ piece: PageRange) throws(PortFailure) {
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
        pages += holes.count
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

  /// Under the gate, so that no child joins meanwhile: it has inherited what its parent had at the fork.
  private mutating func liftLeftProtection(of window: PageRange) throws(PortFailure) -> Bool {
    try memory.ports.gate.shared { () throws(PortFailure) in try liftProtection(of: window) }
  }

  /// Under the gate.
  ///
  /// - Returns: false when an event must be read first; the window is then tried again.
  private mutating func liftProtection(of window: PageRange) throws(PortFailure) -> Bool {
    for process in memory.ports.processes {
      if try process.unprotect(window) == .eventPending { return false }
    }
    protectedWindow = nil
    return true
  }

  private func forEachMovable(in range: PageRange, _ body: (PageRange) -> Void) {
    var position = range.lowerBound
    while position < range.upperBound, let run = memory.ledger.nextMovable(in: position..<range.upperBound) {
      body(run)
      position = run.upperBound
    }
  }

  private func mapped<Result>(_ body: () throws(PortFailure) -> Result) throws(JobFailure) -> Result {
    do throws(PortFailure) { return try body() } catch { throw .port(error) }
  }
}
