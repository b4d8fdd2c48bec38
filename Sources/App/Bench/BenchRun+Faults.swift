internal import Adapters

/// Faults, one by one, together, and while other work goes on; and removes.
extension BenchRun {
  private static let spacing = Toucher.pauseMicroseconds

  func measureFaults(_ guest: BenchGuest) throws {
    try guest.tell("fill-zeros")
    try stage.ask("enable", guest.name)
    tell("faults")
    try measureFaults(guest, way: nil, pauses: ["burst": 0, "rare": Self.spacing])
    try stage.ask("disable", guest.name)
    try verify(guest)
    // Ours may be as good as the busy one in a burst, and need not be when faults are rare.
    for (way, isBusy, pauses) in [("blocking", false, ["rare": Self.spacing]), ("busy", true, ["burst": 0])] {
      tell("faults, limit: \(way)")
      _ = try guest.bare.moveOut(.buffer, threads: 1)
      try guest.served(isBusy: isBusy) { try measureFaults(guest, way: way, pauses: pauses) }
      // What has not come yet.
      try guest.served { try guest.tell("return") }
      try verify(guest)
    }
  }

  /// Each row for itself: what the daemon still has to do for one, giving the copies of the pages back, is over before the next
  /// begins, and its processor time counts.
  ///
  /// - Parameter way: nil for ours.
  private func measureFaults(_ guest: BenchGuest, way: String?, pauses: [String: UInt32]) throws {
    func touch(_ pause: UInt32, threads: Int) throws -> (touches: Touches, processorSeconds: Double) {
      var touches = Touches(.null)
      let workers = way == nil ? stage.processes : []
      let paths = stage.stagingPaths
      let staged = ProcessMemory.bytes(at: paths)
      let cost = try Cost.measure(of: workers) {
        touches = try guest.tenant.touch(plan.touches, pauseMicroseconds: pause, threads: threads)
        guard way == nil else { return }
        try stage.awaitStaging(of: staged - plan.geometry.bytes(inPages: touches.touched), at: paths)
      }
      return (touches, Double(cost.processorNanoseconds) / 1e9 / Double(max(1, touches.touched)))
    }
    for (name, pause) in pauses.sorted(by: { $0.key < $1.key }) {
      let (touches, seconds) = try touch(pause, threads: 1)
      for percentile in ["p50", "p99"] {
        add("fault-\(name)-\(percentile)", way, touches.microseconds(percentile), processorSeconds: seconds)
      }
    }
    for threads in [2, 4] {
      let (touches, seconds) = try touch(0, threads: threads)
      add("faults-\(threads)-threads", way, touches.pagesPerSecond, processorSeconds: seconds)
    }
  }

  // MARK: Under load

  /// The daemon does the same twice: once it serves the one who touches, once a bare handler does.
  func measureLoad(_ guest: BenchGuest) throws {
    try withGuest("toucher") { other in
      for name in ["out", "trim", "move"] where plan.wants("fault-\(name)-p99") {
        let row = "fault-\(name)-p99"
        tell(row)
        // Who touches is the one that is worked on, but for a move, which would stop it.
        let toucher = name == "move" ? other : guest
        try stage.ask("enable", toucher.name)
        add(row, nil, try touch(toucher, during: name, of: guest))
        for guest in [guest, other] {
          try stage.ask("disable", guest.name)
          try verify(guest)
          try guest.tell("fill-zeros")
        }
        tell("\(row), limit")
        if name != "move" { try stage.ask("enable", guest.name) }
        _ = try other.bare.moveOut(.buffer, threads: 1)
        try other.served {
          add(row, "blocking", try touch(other, during: name, of: guest))
          try other.tell("return")
        }
        try stage.ask("disable", guest.name)
        try verify(guest, other)
        try guest.tell("fill-zeros")
      }
    }
  }

  private func touch(_ toucher: BenchGuest, during name: String, of guest: BenchGuest) throws -> Double {
    try toucher.tell("begin")
    try stage.ask(name == "move" ? "enable" : name, guest.name)
    return Touches(try toucher.tell("end")).microseconds("p99")
  }

  // MARK: Removes

  func measureRemove(_ guest: BenchGuest) throws {
    let pages = min(guest.pageCount / 2, (256 << 20) >> plan.geometry.pageShift)
    let staged = plan.geometry.bytes(inPages: guest.pageCount - pages)
    try guest.tell("fill-zeros")
    try stage.ask("enable", guest.name)
    let paths = stage.stagingPaths
    try ours("remove", pages: pages) {
      try guest.tell("remove \(pages)")
      try stage.awaitStaging(of: staged, at: paths)
    }
    try stage.ask("disable", guest.name)
    if try guest.tell("resident")["pages"]?.int != guest.pageCount - pages { mismatches += 1 }
    try guest.tell("fill \(pages)")
    try verify(guest)
    for threads in Self.threads {
      try guest.bare.fillStaging()
      try limit("remove", "\(threads)", pages: pages) { try guest.bare.drop(pages: pages, threads: threads) }
    }
  }
}
