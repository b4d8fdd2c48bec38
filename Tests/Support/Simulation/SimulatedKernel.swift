package import Domain

/// The world of a history: the guest's memfds, staging memory, the processes and their tasks, and the model that knows
/// what every page must read as. Its ports behave as KERNEL.md says that Linux does.
///
/// A page's content is a number; 0 is a page of zeros.
package final class SimulatedKernel: @unchecked Sendable {  // belongs to whoever holds the baton
  package let scheduler: Scheduler
  package let map: RegionMap
  package let defect: Defect?
  package var random: SimulationRandom
  package var injector: FaultInjector
  package var model: PageModel
  /// The memfds' pages that are in the tenant's regions; nil is a hole.
  package internal(set) var guest: [UInt64?]
  package internal(set) var staging: [UInt64?]
  package internal(set) var stagingExists = false
  let stagingLimit: Int
  /// What the job that moves pages may still copy.
  var reservedPages: Int?
  package internal(set) var processes: [SimulatedProcess] = []
  package internal(set) var tasks: [TenantTask] = []
  /// Huge pages (file, number) in which somebody has pinned a page.
  private let pinned: Set<SIMD2<Int>>
  let slowRemovesPerMille: Int
  private let slowCopiesPerMille: Int
  /// Pages whose data a punch has zeroed in place.
  var zeroedInPlace: Set<PageIndex> = []
  /// The tenant has stopped its own tasks.
  package var isPausedByCaller = false
  package internal(set) var isRunning = false
  /// Planted: what is just being copied, and recorded as punching already.
  var earlyPunching: PageRange?
  /// Workers die in this history.
  let mayDie: Bool
  /// A worker is taking over what another has left; a planted bug may lie there.
  var isTakingOver = false
  /// Whom a worker has stopped: written down before the first stop, where the next worker finds it.
  var stoppedProcesses: [SimulatedProcess] = []
  private var lastToken: UInt64 = 1 << 20
  /// How often each page came back from staging or the file.
  var returns: [Int]
  /// What planted bugs remember.
  var memory = DefectMemory()

  package private(set) var failure: String?
  package private(set) var lines: [String] = []
  private let keepsLog: Bool

  package init(plan: HistoryPlan, map: RegionMap, defect: Defect?, keepsLog: Bool) {
    var random = SimulationRandom(seed: plan.scheduleSeed)
    self.map = map
    self.defect = defect
    self.keepsLog = keepsLog
    scheduler = Scheduler(random: random.split(), policy: plan.policy, delaysPerMille: plan.delaysPerMille)
    injector = FaultInjector(plan: plan.faults, random: random.split())
    self.random = random.split()
    guest = plan.contents
    staging = [UInt64?](repeating: nil, count: map.pageCount)
    model = PageModel(plan.contents)
    stagingLimit = plan.stagingLimit ?? .max
    returns = [Int](repeating: 0, count: map.pageCount)
    pinned = plan.pinnedHugePages
    mayDie = !plan.deaths.isEmpty
    slowRemovesPerMille = plan.slowRemovesPerMille
    slowCopiesPerMille = plan.slowCopiesPerMille
    for index in 0..<plan.processCount {
      processes.append(SimulatedProcess(kernel: self, index: index))
      processes[index].hasJoined = plan.joinDelays[index] == nil
      processes[index].isLate = !processes[index].hasJoined
      processes[index].isHeld = processes[index].hasJoined
    }
  }

  // MARK: What is told

  package func log(_ line: @autoclosure () -> String) {
    guard keepsLog, !scheduler.isUnwinding else { return }
    lines.append("\(steps) \(isRunning ? scheduler.current.name : "outside"): \(line())")
  }

  /// Notes what must not be. The first counts; the history goes on, so that its threads come to their end.
  package func fail(_ text: @autoclosure () -> String) {
    if scheduler.isUnwinding { return }
    let text = text()
    log("FAILURE: \(text)")
    if failure == nil { failure = "\(text) (step \(steps))" }
  }

  private var steps: Int { scheduler.steps }

  // MARK: Entering the kernel

  /// Every port call begins here, and perhaps others run first.
  func enter(_ call: @autoclosure () -> String) {
    if scheduler.current.lockHolds > 0 { fail("\(call()) is called under the ledger's lock") }
    scheduler.yield()
    log(call())
    if defect == .repairsComeLate { repairLate() }
  }

  /// As `enter`, for calls that may take long.
  func enterBlocking(_ call: @autoclosure () -> String) {
    if scheduler.current.gateHolds > 0 { fail("\(call()) is called under the gate") }
    enter(call())
  }

  /// Where a worker could die between two effects of one call.
  func perhapsTheEnd() { if mayDie { scheduler.yield() } }

  /// Whether some huge page is pinned.
  var hasPinnedPages: Bool { !pinned.isEmpty }

  /// Perhaps lets others run in the middle of a call.
  func perhapsYield() { if random.chance(perMille: 200) { scheduler.yield() } }

  /// Copying takes long, now and then.
  func perhapsTakeLong() {
    if random.chance(perMille: slowCopiesPerMille) { scheduler.sleep(UInt64(random.within(1_000...50_000))) }
  }

  /// Somebody sends SIGCONT while pages move. Not where pages are pinned: only a freeze keeps their readers off.
  func perhapsStraySignal() {
    guard pinned.isEmpty, random.chance(perMille: 30) else { return }
    log("a stray SIGCONT")
    for process in processes { process.isToStop = false }
  }

  /// Throws where this call is chosen to fail.
  func mayFail(_ operation: PortOperation, _ numbers: Int32...) throws(PortFailure) {
    if scheduler.isUnwinding { throw PortFailure(operation, errorNumber: ErrorNumber.inputOutput) }
    guard let number = injector.failure(among: numbers) else { return }
    log("fails: \(operation.rawValue), errno \(number)")
    throw PortFailure(operation, errorNumber: number)
  }

  // MARK: Contents

  func newToken() -> UInt64 {
    lastToken += 1
    return lastToken
  }

  /// What nobody wrote.
  func garbage() -> UInt64 { random.next() | 1 << 63 }

  func checksum(of token: UInt64) -> PageChecksum {
    defect == .checksumsCollide ? PageChecksum(low: 1, high: 1) : PageChecksum(low: token, high: ~token)
  }

  /// Reads staging memory, which fills no holes.
  func readStaging(_ page: PageIndex) -> UInt64 {
    if !stagingExists { fail("staging memory is read, and there is none") }
    if staging[page.rawValue] == nil { log("staging of \(page) is a hole") }
    return staging[page.rawValue] ?? 0
  }

  /// Removes data from a memfd. Where a huge page is pinned and not punched as a whole, its data is zeroed in place,
  /// and no hole is made.
  func punchPages(_ range: PageRange) {
    for page in range {
      guard guest[page.rawValue] != nil else { continue }
      if isPinned(page), !covers(range, hugePageOf: page) {
        guest[page.rawValue] = 0
        zeroedInPlace.insert(page)
        continue
      }
      guest[page.rawValue] = nil
      if defect == .removesCountAsHoles { memory.announced.remove(page) }
      for process in processes { process.unmap(page) }
    }
  }

  func checkOneRegion(_ range: PageRange, _ call: @autoclosure () -> String) {
    guard !range.isEmpty, let last = range.last, map.regionIndex(of: range.lowerBound) == map.regionIndex(of: last)
    else { return fail("\(call()) of \(range) is empty or reaches over the end of a region") }
  }

  func hugePage(of page: PageIndex) -> SIMD2<Int> {
    let region = map.regions[map.regionIndex(of: page)]
    return SIMD2(region.file, region.filePage(of: page) >> map.geometry.hugePageOrder)
  }

  private func isPinned(_ page: PageIndex) -> Bool { !pinned.isEmpty && pinned.contains(hugePage(of: page)) }

  private func covers(_ range: PageRange, hugePageOf page: PageIndex) -> Bool {
    let region = map.regions[map.regionIndex(of: page)]
    let first = region.filePage(of: page) & ~(map.geometry.hugePagePages - 1)
    let (low, high) = (
      region.filePage(of: range.lowerBound),
      region.firstFilePage + region.pages.lowerBound.distance(to: range.upperBound)
    )
    return low <= first && first + map.geometry.hugePagePages <= high
  }
}
