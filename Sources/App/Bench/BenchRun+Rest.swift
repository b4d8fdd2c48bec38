internal import Adapters

/// What tenants cost while nothing happens; and the kernel's own swap for comparison.
extension BenchRun {
  private static let crowd = 100
  private static let crowdPages = 256
  private static let idleMicroseconds: UInt32 = 5_000_000
  private static let settleMicroseconds: UInt32 = 200_000

  /// Compared with a small tenant, so that what each has besides does not count.
  func measureTables() throws {
    let small = plan.pageCount / 16
    func bytes() -> Int {
      SystemClock().sleep(microseconds: Self.settleMicroseconds)
      return stage.ownBytes + stage.tableBytes
    }
    var costs: [[Int]] = []
    for pages in [small, small, plan.pageCount] {
      tell("tables")
      let before = bytes()
      try withGuest("tables", pages: pages) { guest in
        let ready = bytes()
        try stage.ask("enable", guest.name)
        try stage.ask("out", guest.name)
        costs.append([ready - before, bytes() - ready])
        try stage.ask("disable", guest.name)
        try verify(guest)
      }
    }
    let pages = Double(plan.pageCount - small)
    let ready = Double(costs[2][0] - costs[1][0]) / pages
    add("tables-ready", nil, max(0, ready))
    add("tables-out", nil, Double(costs[2][1] - costs[1][1]) / pages + max(0, ready))
  }

  func measureIdle() throws {
    tell("\(Self.crowd) tenants")
    let (before, clock) = (stage.ownBytes, SystemClock())
    let crowd = try ChildProcess(
      arguments: [PatternTenant.crowdCommand, stage.socket, "\(Self.crowd)", "\(Self.crowdPages)"], keepsErrors: true)
    guard crowd.readLine() != nil else { throw CommandFailure(message: "\(Self.crowd) tenants could not start") }
    clock.sleep(microseconds: Self.settleMicroseconds)
    add("idle-memory", nil, Double(stage.ownBytes - before) / Double(Self.crowd) / Double(1 << 20))
    tell("\(Self.crowd) idle tenants")
    let cost = stage.cost { clock.sleep(microseconds: Self.idleMicroseconds) }
    add("idle-cpu", nil, 100 * Double(cost.processorNanoseconds) / Double(cost.nanoseconds))
    crowd.writeLine("end")
    crowd.end()
  }

  /// MADV_PAGEOUT to a swap file, and touches of what is there, on the same content.
  ///
  /// The kernel leaves in its swap cache what it has just written, until memory is reclaimed once more; and it reads ahead. So
  /// its touches are counted that read the disk, and no others.
  func compareKernel(_ guest: BenchGuest) throws {
    var shares: [String] = []
    func touch(_ way: String?, _ kind: String) throws {
      ProcessMemory.dropCaches()
      let touches = try guest.tenant.touch(plan.touches, of: kind)
      for percentile in ["p50", "p99"] where touches.count > 0 {
        add("kernel-fault-\(percentile)", way, touches.microseconds(percentile))
      }
      shares.append(ByteSize.decimals(100 * Double(touches.count) / Double(max(1, touches.touched)), 0) + " %")
    }
    try guest.tell("fill-zeros")
    try ours("kernel-out", pages: guest.pageCount) {
      try stage.ask("enable", guest.name)
      try stage.ask("out", guest.name)
    }
    try touch(nil, "fault")
    try stage.ask("disable", guest.name)
    try verify(guest)
    let swap = try KernelSwap(
      in: stage.swapDirectory, bytes: plan.geometry.bytes(inPages: guest.pageCount + guest.pageCount / 16))
    var group: ReclaimGroup?
    do throws(SystemError) { group = try ReclaimGroup(of: guest.tenant.handle) } catch {}  // then the swap cache stays
    try guest.tell("fill-anew")
    try withExtendedLifetime(swap) {
      try limit("kernel-out", "kernel", pages: guest.pageCount) {
        try Cost.measure(of: [guest.tenant.handle]) { try guest.tell("page-out") }
      }
      group?.reclaim()
      try touch("kernel", "disk")
      note(
        "kernel-fault",
        "kernel-fault rows: of our touches those that were faults (\(shares[0])), of the kernel's those that read the disk "
          + "(\(shares[1])); the others found their page read ahead or still in its swap cache, "
          + (group == nil ? "which could not be emptied." : "which was emptied before."))
      try verify(guest)
    }
  }
}
