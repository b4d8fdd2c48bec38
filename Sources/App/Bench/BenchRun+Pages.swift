internal import Adapters

/// Moving, trimming, writing and bringing back.
extension BenchRun {
  static let threads = [1, 2]

  /// - Parameter renew: puts the memory into the state that is to be moved.
  func measureStaging(_ guest: BenchGuest, move: String, back: String, renew: () throws -> Void) throws {
    try renew()
    try ours(move, pages: guest.pageCount) { try stage.ask("enable", guest.name) }
    try ours(back, pages: guest.pageCount) { try stage.ask("disable", guest.name) }
    try verify(guest)
    if move == "huge-move" { add("huge-whole", nil, 100 * (try wholeShare(guest))) }
    for way in BareMemory.Way.allCases {
      for threads in Self.threads {
        try renew()
        try limit(move, "\(way.rawValue) \(threads)", pages: guest.pageCount) {
          try guest.bare.moveOut(way, threads: threads)
        }
        try guest.bare.registered {
          try limit(back, "\(threads)", pages: guest.pageCount) {
            try guest.bare.copyBack(threads: threads) { _ in true }
          }
        }
      }
    }
    try verify(guest)
  }

  /// As far as the kernel's setting gives huge pages, which is left as it is.
  func measureHuge(_ guest: BenchGuest) throws {
    let renew = { _ = try guest.tell(self.plan.collapses ? "fill-anew collapse" : "fill-anew") }
    tell("huge pages")
    try renew()
    let share = try wholeShare(guest)
    guard share > 0 else {
      return note(
        "huge",
        "The huge- rows are left out: this kernel gives shared memory no huge pages "
          + "(/sys/kernel/mm/transparent_hugepage/shmem_enabled: \(MachineDescription.hugePages)). With --collapse they are "
          + "made all the same.")
    }
    if share < 1 {
      note("huge", "In the huge- rows \(ByteSize.decimals(100 * share, 0)) % of the memory is in huge pages.")
    }
    try measureStaging(guest, move: "huge-move", back: "huge-in-staging", renew: renew)
  }

  private func wholeShare(_ guest: BenchGuest) throws -> Double {
    Double(try guest.tell("whole")["pages"]?.int ?? 0)
      / Double(max(1, guest.pageCount / plan.geometry.hugePagePages))
  }

  func measureTrim(_ guest: BenchGuest, _ row: String) throws {
    let (present, isPresent) = (guest.notZeroPages, guest.isNotZero)
    // The row is for scattered zero pages.
    let back = row == "trim-zero" ? "in-staging-trimmed" : "in-staging-trimmed-runs"
    try guest.tell("fill-zeros")
    try stage.ask("enable", guest.name)
    try ours(row, pages: guest.pageCount) { try stage.ask("trim", guest.name) }
    try ours(back, pages: present) { try stage.ask("disable", guest.name) }
    try verify(guest, isTrimmed: true)
    for threads in Self.threads {
      try guest.tell("fill-zeros")
      _ = try guest.bare.moveOut(.buffer, threads: 1)
      try limit(row, "\(threads)", pages: guest.pageCount) { try guest.bare.dropZeros(threads: threads) }
      try guest.bare.registered {
        try limit(back, "\(threads)", pages: present) { try guest.bare.copyBack(threads: threads, isPresent) }
      }
    }
    try verify(guest, isTrimmed: true)
    try guest.tell("fill-zeros")
  }

  /// All pages are written, come back one by one, and half of those that are not zero change.
  func measureModified(_ guest: BenchGuest) throws {
    try guest.tell("fill-zeros")
    for row in ["trim-modified-warm", "trim-modified-cold"] where plan.wants(row) {
      try stage.ask("enable", guest.name)
      try stage.ask("out", guest.name)
      tell("\(row): everything comes back by faults")
      try guest.tell("return")
      try guest.tell("modify")
      if row == "trim-modified-cold" { ProcessMemory.dropCaches() }
      try stage.ask("enable", guest.name)
      try ours(row, pages: guest.pageCount) { try stage.ask("trim", guest.name) }
      try stage.ask("disable", guest.name)
      try verify(guest, isTrimmed: true)
      try guest.tell("fill-zeros")
      for threads in Self.threads {
        try guest.bare.fillStaging()
        let isPresent = guest.isNotZero
        try limit(row, "\(threads)", pages: guest.pageCount) {
          try guest.bare.dropUnchanged(threads: threads) { !isPresent($0) || !PatternTenant.isModified($0) }
        }
      }
    }
  }

  func measureFile(_ guest: BenchGuest, isTrimmed: Bool) throws {
    let suffix = isTrimmed ? "trimmed" : "untrimmed"
    let isPresent = isTrimmed ? guest.isNotZero : guest.isAny
    let present = (0..<guest.pageCount).count(where: isPresent)
    try guest.tell("fill-zeros")
    try stage.ask("enable", guest.name)
    if isTrimmed { try stage.ask("trim", guest.name) }
    try ours("out-\(suffix)", pages: present) { try stage.ask("out", guest.name) }
    let left = stage.stagingBytes + stage.worker.cachedBytes
    if left > plan.geometry.bytes(inPages: present) / 100 {
      object("out-\(suffix)", "\(ByteSize.text(UInt64(left))) of RAM are not free when out returns")
    }
    ProcessMemory.dropCaches()
    if !isTrimmed, plan.wants("fault-file-p50") { try touchFile(guest) }
    try ours("in-file-\(suffix)", pages: present) { try stage.ask("disable", guest.name) }
    try verify(guest, isTrimmed: isTrimmed)
    try measureFileLimits(guest, suffix, present, isPresent)
    try guest.tell("fill")
  }

  private func touchFile(_ guest: BenchGuest) throws {
    tell("fault-file-p50")
    var median = 0.0
    let cost = try stage.cost { median = try guest.tenant.touch(100).microseconds("p50") }
    add(
      "fault-file-p50", nil, median, processorSeconds: Double(cost.processorNanoseconds) / 1e9 / 100)
  }

  /// Leaves the guest's memory empty.
  private func measureFileLimits(
    _ guest: BenchGuest, _ suffix: String, _ present: Int, _ isPresent: @escaping @Sendable (Int) -> Bool
  ) throws {
    let bare = guest.bare
    var reads: [Cost] = []
    var copies: [Cost] = []
    for (way, isDirect, threads, writing) in [
      ("O_DIRECT 1", true, 1, []), ("O_DIRECT 2", true, 2, []), ("O_DIRECT 2, gathered", true, 2, .gathers),
      ("O_DIRECT 2, gathered, space first", true, 2, [.gathers, .allocates]), ("buffered 1", false, 1, []),
    ] as [(String, Bool, Int, BareMemory.Writing)] {
      let file = try BareFile(in: stage.swapDirectory, isDirect: isDirect)
      try bare.fillStaging()
      try limit("out-\(suffix)", way, pages: present) {
        try bare.write(to: file, threads: threads, writing, isPresent)
      }
      ProcessMemory.dropCaches()
      if way == "O_DIRECT 1", suffix == "untrimmed", plan.wants("fault-file-p50") {
        try measureFileFaultLimit(guest, file, pages: present)
      }
      tell("in-file-\(suffix), limit: read, \(way)")
      reads.append(try bare.read(file, pages: present, threads: threads))
    }
    for threads in Self.threads {
      try bare.punchGuest()
      tell("in-file-\(suffix), limit: copy")
      copies.append(try bare.registered { try bare.copyIn(threads: threads, isPresent) })
    }
    try bare.punchGuest()
    // The slower of the two is the limit; each at its best.
    let slower = [reads, copies].compactMap { $0.min { $0.nanoseconds < $1.nanoseconds } }
      .max { $0.nanoseconds < $1.nanoseconds }
    if let slower { try limit("in-file-\(suffix)", "read or copy", pages: present) { slower } }
  }

  /// A read of one page, and a fault's round trip.
  private func measureFileFaultLimit(_ guest: BenchGuest, _ file: BareFile, pages: Int) throws {
    let reads = try file.randomReads(100, pageBytes: plan.geometry.pageBytes, pages: pages)
    try guest.bare.punchGuest()
    try guest.bare.fillStaging()
    let fault = try guest.served { try guest.tenant.touch(1000).microseconds("p50") }
    add("fault-file-p50", "read and fault", Double(Latencies(reads).percentile(50)) / 1000 + fault)
    try guest.bare.punchGuest()
  }
}
