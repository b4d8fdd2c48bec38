internal import Adapters

/// Moving, trimming, writing and bringing back.
extension BenchRun {
  static let threads = [1, 2]

  func measureStaging(_ guest: BenchGuest) throws {
    try ours("move", pages: guest.pageCount) { try stage.ask("enable", guest) }
    try ours("in-staging-untrimmed", pages: guest.pageCount) { try stage.ask("disable", guest) }
    try verify(guest)
    for way in BareMemory.Way.allCases {
      for threads in Self.threads {
        try limit("move", "\(way.rawValue) \(threads)", pages: guest.pageCount) {
          try guest.bare.moveOut(way, threads: threads)
        }
        try guest.bare.register()
        try limit("in-staging-untrimmed", "\(threads)", pages: guest.pageCount) {
          try guest.bare.copyBack(threads: threads) { _ in true }
        }
        try guest.bare.unregister()
      }
    }
    try verify(guest)
  }

  func measureTrim(_ guest: BenchGuest, _ row: String) throws {
    let (present, isPresent) = (guest.notZeroPages, guest.isNotZero)
    // The row is for scattered zero pages.
    let back = row == "trim-zero" ? "in-staging-trimmed" : "in-staging-trimmed-runs"
    try guest.tell("fill-zeros")
    try stage.ask("enable", guest)
    try ours(row, pages: guest.pageCount) { try stage.ask("trim", guest) }
    try ours(back, pages: present) { try stage.ask("disable", guest) }
    try verify(guest, isTrimmed: true)
    for threads in Self.threads {
      try guest.tell("fill-zeros")
      _ = try guest.bare.moveOut(.buffer, threads: 1)
      try limit(row, "\(threads)", pages: guest.pageCount) { try guest.bare.dropZeros(threads: threads) }
      try guest.bare.register()
      try limit(back, "\(threads)", pages: present) {
        try guest.bare.copyBack(threads: threads, isPresent)
      }
      try guest.bare.unregister()
    }
    try verify(guest, isTrimmed: true)
    try guest.tell("fill-zeros")
  }

  /// All pages are written, come back one by one, and half of those that are not zero change.
  func measureModified(_ guest: BenchGuest) throws {
    try guest.tell("fill-zeros")
    for row in ["trim-modified-warm", "trim-modified-cold"] where plan.wants(row) {
      try stage.ask("enable", guest)
      try stage.ask("out", guest)
      tell("\(row): everything comes back by faults")
      try guest.tell("return")
      try guest.tell("modify")
      if row == "trim-modified-cold" { ProcessMemory.dropCaches() }
      try stage.ask("enable", guest)
      try ours(row, pages: guest.pageCount) { try stage.ask("trim", guest) }
      try stage.ask("disable", guest)
      try verify(guest, isTrimmed: true)
      try guest.tell("fill-zeros")
      for threads in Self.threads {
        try guest.bare.fillStaging()
        let isPresent = guest.isNotZero
        try limit(row, "\(threads)", pages: guest.pageCount) {
          try guest.bare.dropUnchanged(threads: threads) { !isPresent($0) || !BenchTenant.isModified($0) }
        }
      }
    }
  }

  func measureFile(_ guest: BenchGuest, isTrimmed: Bool) throws {
    let suffix = isTrimmed ? "trimmed" : "untrimmed"
    let isPresent = isTrimmed ? guest.isNotZero : guest.isAny
    let present = (0..<guest.pageCount).count(where: isPresent)
    try guest.tell("fill-zeros")
    try stage.ask("enable", guest)
    if isTrimmed { try stage.ask("trim", guest) }
    try ours("out-\(suffix)", pages: present) { try stage.ask("out", guest) }
    let left = stage.stagingBytes() + stage.worker.cachedBytes
    if left > stage.geometry.bytes(inPages: present) / 100 {
      object("out-\(suffix)", "\(ByteSize.text(UInt64(left))) of RAM are not free when out returns")
    }
    ProcessMemory.dropCaches()
    if !isTrimmed, plan.wants("fault-file-p50") { try touchFile(guest) }
    try ours("in-file-\(suffix)", pages: present) { try stage.ask("disable", guest) }
    try verify(guest, isTrimmed: isTrimmed)
    try measureFileLimits(guest, suffix, present, isPresent)
    try guest.tell("fill")
  }

  private func touchFile(_ guest: BenchGuest) throws {
    tell("fault-file-p50")
    var faults: JSONValue = .null
    let cost = try stage.cost { faults = try guest.touch(100) }
    add(
      "fault-file-p50", nil, Double(faults["p50"]?.int ?? 0) / 1000,
      processorSeconds: Double(cost.processorNanoseconds) / 1e9 / 100)
  }

  /// Leaves the guest's memory empty.
  private func measureFileLimits(
    _ guest: BenchGuest, _ suffix: String, _ present: Int, _ isPresent: @escaping @Sendable (Int) -> Bool
  ) throws {
    let bare = guest.bare
    var reads: [Cost] = []
    var copies: [Cost] = []
    for (way, isDirect, threads) in [("O_DIRECT 1", true, 1), ("O_DIRECT 2", true, 2), ("buffered 1", false, 1)] {
      let file = try BareFile(in: stage.swapDirectory, isDirect: isDirect)
      try bare.fillStaging()
      try limit("out-\(suffix)", way, pages: present) { try bare.write(to: file, threads: threads, isPresent) }
      ProcessMemory.dropCaches()
      tell("in-file-\(suffix), limit: read, \(way)")
      reads.append(try bare.read(file, pages: present, threads: threads))
      if way == "O_DIRECT 1", suffix == "untrimmed", plan.wants("fault-file-p50") {
        try measureFileFaultLimit(guest, file, pages: present)
      }
    }
    for threads in Self.threads {
      try bare.punchGuest()
      try bare.register()
      tell("in-file-\(suffix), limit: copy")
      copies.append(try bare.copyIn(threads: threads, isPresent))
      try bare.unregister()
    }
    try bare.punchGuest()
    // The slower of the two is the limit; each at its best.
    let slower = [reads, copies].compactMap { $0.min { $0.nanoseconds < $1.nanoseconds } }
      .max { $0.nanoseconds < $1.nanoseconds }
    if let slower { try limit("in-file-\(suffix)", "read or copy", pages: present) { slower } }
  }

  /// A read of one page, and a fault's round trip.
  private func measureFileFaultLimit(_ guest: BenchGuest, _ file: BareFile, pages: Int) throws {
    let reads = try file.randomReads(100, pageBytes: stage.geometry.pageBytes, pages: pages).sorted()
    try guest.bare.punchGuest()
    try guest.bare.fillStaging()
    let faults = try touchBare(guest, count: 1000, isBusy: false, pauseMicroseconds: 0, threads: 1)
    add(
      "fault-file-p50", "read and fault", Double(reads[reads.count / 2]) / 1000 + Double(faults["p50"]?.int ?? 0) / 1000
    )
    try guest.bare.punchGuest()
  }
}
