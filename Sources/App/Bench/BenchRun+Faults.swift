internal import Adapters

/// Faults, one by one, together, and while other work goes on; and removes.
extension BenchRun {
  private static let spacing = BenchToucher.pauseMicroseconds

  func measureFaults(_ guest: BenchGuest) throws {
    let count = plan.touches
    try guest.tell("fill-zeros")
    try stage.ask("enable", guest)
    tell("faults")
    for (name, pause) in [("burst", UInt32(0)), ("rare", Self.spacing)] {
      var faults: JSONValue = .null
      let cost = try stage.cost { faults = try guest.touch(count, pauseMicroseconds: pause) }
      add("fault-\(name)", nil, faults, cost)
    }
    for threads in [2, 4] {
      var faults: JSONValue = .null
      let cost = try stage.cost { faults = try guest.touch(count, threads: threads) }
      addTogether(threads, nil, faults, cost)
    }
    try stage.ask("disable", guest)
    try verify(guest)
    for isBusy in [false, true] {
      let way = isBusy ? "busy" : "blocking"
      tell("faults, limit: \(way)")
      _ = try guest.bare.moveOut(.buffer, threads: 1)
      // Ours may be as good as the busy one in a burst, and need not be when faults are rare.
      for (name, pause, isFor) in [("burst", UInt32(0), isBusy), ("rare", Self.spacing, !isBusy)] where isFor {
        var faults: JSONValue = .null
        let cost = try Cost.measure {
          faults = try touchBare(guest, count: count, isBusy: isBusy, pauseMicroseconds: pause, threads: 1)
        }
        add("fault-\(name)", way, faults, cost)
      }
      for threads in [2, 4] {
        var faults: JSONValue = .null
        let cost = try Cost.measure {
          faults = try touchBare(guest, count: count, isBusy: isBusy, pauseMicroseconds: 0, threads: threads)
        }
        addTogether(threads, way, faults, cost)
      }
      try takeBack(guest)
      try verify(guest)
    }
  }

  private func add(_ name: String, _ way: String?, _ faults: JSONValue, _ cost: Cost) {
    let seconds = Double(cost.processorNanoseconds) / 1e9 / Double(max(1, faults["count"]?.int ?? 0))
    for percentile in ["p50", "p99"] {
      add("\(name)-\(percentile)", way, Double(faults[percentile]?.int ?? 0) / 1000, processorSeconds: seconds)
    }
  }

  private func addTogether(_ threads: Int, _ way: String?, _ faults: JSONValue, _ cost: Cost) {
    let count = Double(faults["count"]?.int ?? 0)
    add(
      "faults-\(threads)-threads", way, count / (Double(faults["nanoseconds"]?.int ?? 1) / 1e9),
      processorSeconds: Double(cost.processorNanoseconds) / 1e9 / count)
  }

  /// Everything of the guest is in bare staging memory.
  func touchBare(
    _ guest: BenchGuest, count: Int, isBusy: Bool, pauseMicroseconds: UInt32, threads: Int
  ) throws -> JSONValue {
    try guest.bare.register()
    let handler = try BareHandler(guest.bare, isBusy: isBusy)
    let faults = try guest.touch(count, pauseMicroseconds: pauseMicroseconds, threads: threads)
    handler.stop()
    try guest.bare.unregister()
    return faults
  }

  /// What is in bare staging memory comes back, besides what has come already.
  private func takeBack(_ guest: BenchGuest) throws {
    try guest.bare.register()
    let handler = try BareHandler(guest.bare, isBusy: false)
    try guest.tell("return")
    handler.stop()
    try guest.bare.unregister()
  }

  // MARK: Under load

  /// The daemon does the same twice: once it serves the one who touches, once a bare handler does.
  func measureLoad(_ guest: BenchGuest) throws {
    try withGuest("toucher", plan.zeroRun ?? 1) { other in
      for name in ["out", "trim", "move"] where plan.wants("fault-\(name)-p99") {
        let row = "fault-\(name)-p99"
        tell(row)
        // Who touches is the one that is worked on, but for a move, which would stop it.
        let toucher = name == "move" ? other : guest
        try stage.ask("enable", toucher)
        add(row, nil, try touch(toucher, during: name, of: guest))
        for guest in [guest, other] {
          try stage.ask("disable", guest)
          try verify(guest)
          try guest.tell("fill-zeros")
        }
        tell("\(row), limit")
        if name != "move" { try stage.ask("enable", guest) }
        _ = try other.bare.moveOut(.buffer, threads: 1)
        try other.bare.register()
        let handler = try BareHandler(other.bare, isBusy: false)
        add(row, "blocking", try touch(other, during: name, of: guest))
        try other.tell("return")
        handler.stop()
        try other.bare.unregister()
        try stage.ask("disable", guest)
        try verify(guest)
        try verify(other)
        try guest.tell("fill-zeros")
      }
    }
  }

  private func touch(_ toucher: BenchGuest, during name: String, of guest: BenchGuest) throws -> Double {
    try toucher.tell("begin")
    try stage.ask(name == "move" ? "enable" : name, guest)
    return Double(try toucher.tell("end")["p99"]?.int ?? 0) / 1000
  }

  // MARK: Removes

  func measureRemove(_ guest: BenchGuest) throws {
    let pages = min(guest.pageCount / 2, (256 << 20) >> stage.geometry.pageShift)
    let staged = stage.geometry.bytes(inPages: guest.pageCount - pages)
    try guest.tell("fill-zeros")
    try stage.ask("enable", guest)
    let paths = stage.stagingPaths
    try ours("remove", pages: pages) {
      try guest.tell("remove \(pages)")
      // Their copies' memory comes back a little later.
      while ProcessMemory.bytes(at: paths) > staged { SystemClock().sleep(microseconds: 100) }
    }
    try stage.ask("disable", guest)
    if try guest.tell("resident")["pages"]?.int != guest.pageCount - pages { mismatches += 1 }
    try guest.tell("fill \(pages)")
    try verify(guest)
    for threads in Self.threads {
      try guest.bare.fillStaging()
      try limit("remove", "\(threads)", pages: pages) { try guest.bare.drop(pages: pages, threads: threads) }
    }
  }
}
