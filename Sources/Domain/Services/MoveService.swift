/// Moves everything resident into staging memory, window by window (`WindowMove`), by two pairs of hands.
///
/// Memory: a window is copied before it is punched, so the machine must have one window more for each pair of hands, for an
/// instant; after that it has what it had. The charges move, though: from the tenant's control group (which is relieved) to the daemon's own.
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
  /// How many windows are moved in one hold of the gate.
  private var sizer = ChunkSizer(largest: Self.windowsWhileStopped, smallest: 1)
  /// Nobody can fault then, and two who copy and punch in turn hinder each other least where they need not wait at each window.
  private static var windowsWhileStopped: Int { 8 }
  private static var windowsWhileRunning: Int { 2 }
  /// Windows whose protection could not be lifted yet.
  private var protectedWindows: [PageRange] = []
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
  package var holdsProtection: Bool { !protectedWindows.isEmpty }

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
    do throws(PortFailure) {
      guard try liftLeftProtection() else { return .retryAfter(nanoseconds: RetryDelay.event) }
      if !needsStop, try listWindows() { return .again }
      if windows.isEmpty, edges.isEmpty, !isLastRound {
        isLastRound = true
        swap(&windows, &postponed)
      }
      var next = takeNext()
      guard !next.isEmpty else { return .finished }
      shortage = memory.ports.headroom.shortage(of: next.pageCount, for: .staging)
      if shortage != nil, next.count > 1 {
        putBack(Array(next.dropFirst()))
        next = [next[0]]
        shortage = memory.ports.headroom.shortage(of: next.pageCount, for: .staging)
      }
      guard shortage == nil else {
        putBack(next)
        return .again
      }
      let areMoved = try move(next)
      if shortage == .stagingLimit, try giveRoom() { shortage = nil }
      return areMoved || shortage != nil ? .again : .retryAfter(nanoseconds: RetryDelay.event)
    } catch { throw .port(error) }
  }

  /// The next windows to be moved in one hold of the gate; none where there are none, or no room.
  private mutating func takeNext() -> [PageRange] {
    guard shortage == nil else { return [] }
    if let edge = edges.popLast() { return [edge] }
    let most = joinsWhenStopped == nil ? Self.windowsWhileRunning : Self.windowsWhileStopped
    // Live, one processor is the tenant's.
    let count = isLive ? 1 : min(sizer.next(faultCount: memory.ledger.counts.faults.total), most)
    defer { windows.removeLast(min(count, windows.count)) }
    return windows.suffix(count).reversed()
  }

  private mutating func putBack(_ left: [PageRange]) {
    for window in left.reversed() { if isEdge(window) { edges.append(window) } else { windows.append(window) } }
  }

  /// The helper takes its share of the windows.
  ///
  /// - Returns: false where an event must be read first, and not all were moved.
  private mutating func move(_ next: [PageRange]) throws(PortFailure) -> Bool {
    let work = WindowMove(memory: memory, movesWhole: isLive && !isEdge(next[0]))
    let outcomes = memory.ports.gate.exclusive { () -> [WindowMove<Ports>.Outcome] in
      // Protection does not stop readers, who could see what a punch of pinned pages leaves behind.
      if let joinsWhenStopped, memory.ledger.joins != joinsWhenStopped { return [] }
      let areSeveral = next.count > 1 && memory.ports.staging.reserve(next.pageCount)
      defer { _ = memory.ports.staging.reserve(0) }
      guard areSeveral else { return [work.move(next[0], reserves: true)] }
      let (mine, others) = memory.ports.helper.both(next) { work.move($0) }
      return mine + others
    }
    var (left, failure): ([PageRange], PortFailure?) = (next, nil)
    for outcome in outcomes {
      pages += outcome.pages
      if outcome.isProtected { protectedWindows.append(outcome.window) }
      switch outcome.end {
      case .moved: left.removeAll { $0 == outcome.window }
      case .postponed:
        left.removeAll { $0 == outcome.window }
        postponed.append(outcome.window)
      case .eventPending: break
      case .shortage(let found): shortage = found
      case .failed(let found): failure = failure ?? found
      }
    }
    putBack(left)
    if let failure { throw failure }
    return left.isEmpty || outcomes.contains { $0.end == .moved }
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
    while !protectedWindows.isEmpty {
      do throws(PortFailure) { return try liftLeftProtection() } catch {
        // The range is not registered any more, or its process is dead: nothing is protected.
        protectedWindows.removeLast()
      }
    }
    return true
  }

  /// Under the gate, so that no child joins meanwhile: it has inherited what its parent had at the fork.
  ///
  /// - Returns: false when an event must be read first.
  private mutating func liftLeftProtection() throws(PortFailure) -> Bool {
    while let window = protectedWindows.last {
      let isLifted = try memory.ports.gate.shared { () throws(PortFailure) in
        try WindowMove(memory: memory, movesWhole: false).liftProtection(of: window)
      }
      guard isLifted else { return false }
      protectedWindows.removeLast()
    }
    return true
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
}

extension Collection where Element == PageRange {
  fileprivate var pageCount: Int { reduce(0) { $0 + $1.count } }
}
