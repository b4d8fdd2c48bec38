package import Domain

/// Everything of a history that is fixed before it begins: drawn from its seed, and perhaps made smaller afterwards.
package struct HistoryPlan: Sendable {
  package enum Action: Equatable, Sendable {
    /// `isPaused`: under `caller`, whether the tenant has really stopped its tasks.
    case enable(FreezeMode, isPaused: Bool)
    case trim
    case out
    case disable
    case kill(process: Int)
  }

  package struct Command: Equatable, Sendable {
    package var action: Action
    /// After so many steps the job is ended by the next command.
    package var abortsAfter: Int?
    package var pauseNanoseconds: UInt64
  }

  package struct Task: Sendable {
    package var process: Int
    package var faultsInKernel: Bool
    package var operations: [TenantTask.Operation]
  }

  package enum Style: Sendable {
    case mixed
    /// Most tasks touch and remove one page, while one `enable` after another moves what the first task writes.
    case crowd
    /// Pages that are mostly read go out, come back, and are found unchanged.
    case trimming
    /// Few pages, few of everything; nothing happens by chance but the schedule.
    case brief
  }

  /// What a kind of history has in it.
  package struct Flavour: Sendable {
    package var faults: FaultInjector.Plan = .none
    package var corruptsPerMille = 0
    package var mayPin = true
    package var mayKill = true
    package var style = Style.mixed
    /// Always several processes, of which some join late.
    package var isShared = false
    /// Workers die, and others take over.
    package var mayDie = false
    /// And that more often than makes for variety.
    package var diesOften = false
    /// Pages are pinned in every history, not just in some.
    package var pinsAlways = false

    /// Memory, staging and the swap file have limits.
    package var isTight = false
    /// How `enable` may keep writers off.
    package var freezes = FreezeMode.allCases

    package init(
      faults: FaultInjector.Plan = .none, corruptsPerMille: Int = 0, mayPin: Bool = true, mayKill: Bool = true,
      style: Style = .mixed, isShared: Bool = false, isTight: Bool = false, mayDie: Bool = false,
      diesOften: Bool = false, pinsAlways: Bool = false, freezes: [FreezeMode] = FreezeMode.allCases
    ) {
      self.mayDie = mayDie || diesOften
      self.diesOften = diesOften
      self.pinsAlways = pinsAlways
      self.freezes = freezes
      self.isShared = isShared
      self.isTight = isTight
      self.style = style
      self.faults = faults
      self.corruptsPerMille = corruptsPerMille
      self.mayPin = mayPin
      self.mayKill = mayKill
    }
  }

  package let seed: UInt64
  package var scheduleSeed: UInt64
  package var policy: Scheduler.Policy
  package var delaysPerMille: Int
  /// How often the kernel takes long between a remove's event and the removal, in a thousand.
  package var slowRemovesPerMille: Int
  /// How often copying pages, to staging or back, takes long, in a thousand.
  package var slowCopiesPerMille: Int
  package var faults: FaultInjector.Plan
  package var corruptsPerMille: Int
  package let requests: [RegionRequest]
  package let files: [GuestFile]
  package let geometry: PageGeometry
  package var contents: [UInt64?]
  package var pinnedHugePages: Set<SIMD2<Int>> = []
  package var processCount: Int
  /// When a process joins the tenant, in nanoseconds; nil for those that are there from the start.
  package var joinDelays: [UInt64?]
  package var readerCount: Int
  package var queueLimit: Int
  package var longestReleasePauseNanoseconds: Int
  package var readBuffers: Int
  package var readBufferPages: Int
  /// Whether the tenant has come to rest before the last disable.
  package var restsBeforeEnd: Bool
  /// How often there is no memory, in a thousand looks.
  package var shortagesPerMille = 0
  /// How many pages staging memory and the swap file may have; nil is no limit.
  package var stagingLimit: Int?
  package var slotLimit: Int?
  package var commands: [Command]
  package var tasks: [Task]
  package var deaths: [WorkerDeath] = []
  var flavourMayDie: Bool { !deaths.isEmpty }

  package init(seed: UInt64, flavour: Flavour) {
    var random = SimulationRandom(seed: seed)
    self.seed = seed
    scheduleSeed = random.next()
    policy =
      switch random.below(3) {
      case 0: .random(stickyPerMille: 0)
      case 1: .random(stickyPerMille: random.pick([500, 800, 950]))
      default: .priorities(changePerMille: random.pick([5, 20, 100]))
      }
    delaysPerMille = random.pick(flavour.style == .crowd ? [5, 30, 60] : [0, 5, 30])
    slowCopiesPerMille = random.pick([0, 50, 300])
    slowRemovesPerMille = flavour.style == .crowd ? 800 : 400
    faults = flavour.faults
    corruptsPerMille = flavour.corruptsPerMille
    let largestRegions =
      switch flavour.style {
      case .mixed, .trimming: [1, 3, 6, 16, 40]
      case .crowd: [2, 8, 16]
      case .brief: [2, 3]
      }
    let layout = Layout(&random, largestRegions: largestRegions)
    (requests, files, geometry) = (layout.requests, layout.files, layout.geometry)
    let pageCount = layout.pageCount
    contents = (0..<pageCount).map { page in
      switch random.below(4) {
      case 0: nil
      case 1: 0
      default: UInt64(page + 1)
      }
    }
    processCount = random.chance(perMille: flavour.isShared ? 1000 : 350) ? random.within(2...4) : 1
    joinDelays = (0..<processCount).map { number in
      let longest = random.pick([50_000, 300_000, 4_000_000])
      return number > 0 && random.chance(perMille: 500) ? UInt64(random.within(0...longest)) : nil
    }
    readerCount = random.within(1...2)
    queueLimit = random.pick([1, 2, 8])
    longestReleasePauseNanoseconds = random.pick([20_000, 200_000, 3_000_000])
    readBuffers = random.within(1...3)
    readBufferPages = random.within(1...8)
    restsBeforeEnd = random.chance(perMille: 500)
    commands = Self.commands(&random, flavour)
    tasks = Self.tasks(
      &random, processCount: processCount, regions: layout.regionPages, rounds: commands.count,
      style: flavour.style)
    if flavour.mayPin, random.chance(perMille: flavour.pinsAlways ? 1000 : 300) { pin(layout, &random) }
    if flavour.mayKill, random.chance(perMille: 120) {
      let kill = Action.kill(process: random.below(processCount))
      commands.insert(
        Command(action: kill, pauseNanoseconds: 0), at: random.below(commands.count + 1))
    }
    if flavour.mayDie { deaths = WorkerDeath.some(&random, commandCount: commands.count, isOften: flavour.diesOften) }
    guard flavour.isTight else { return }
    shortagesPerMille = random.pick([0, 50, 300])
    if random.chance(perMille: 700) {
      stagingLimit = random.within(geometry.hugePagePages...max(pageCount, geometry.hugePagePages))
    }
    if random.chance(perMille: 500) { slotLimit = random.within(1...pageCount) }
  }

  /// Enable, out, enable, trim, out, disable, enable, disable.
  private static var briefCommands: [Int] { [0, 6, 0, 4, 6, 9, 0, 9] }

  private static func commands(_ random: inout SimulationRandom, _ flavour: Flavour) -> [Command] {
    let style = flavour.style
    var commands: [Command] = []
    let count =
      switch style {
      case .mixed, .trimming: random.within(2...12)
      case .crowd: random.within(8...16)
      case .brief: Self.briefCommands.count
      }
    for number in 0..<count {
      let kind =
        switch style {
        case .mixed: number == 0 ? 0 : random.below(10)
        case .crowd: number == 0 ? 0 : random.below(5)
        case .trimming: [0, 6, 0, 4][number % 4]
        case .brief: Self.briefCommands[number]
        }
      let action: Action =
        switch kind {
        case 0...3: .enable(random.pick(flavour.freezes), isPaused: random.chance(perMille: 400))
        case 4, 5: .trim
        case 6, 7, 8: .out
        default: .disable
        }
      let isAborted = (style == .mixed || style == .crowd) && random.chance(perMille: 250)
      commands.append(
        Command(
          action: action, abortsAfter: isAborted ? random.below(8) : nil,
          pauseNanoseconds: random.chance(perMille: 400) ? UInt64(random.below(150_000)) : 0))
    }
    return commands
  }

  private static func tasks(
    _ random: inout SimulationRandom, processCount: Int, regions: [PageRange], rounds: Int, style: Style
  ) -> [Task] {
    let hot = (0..<random.within(1...3)).map { _ in anyPage(&random, regions) }
    // It is moved last (moves begin at the end), so that much can happen between the beginning of `enable` and its move.
    let last = PageIndex(0)
    return (0..<(style == .brief ? 2 : random.within(2...5))).map { number in
      let length = style == .brief ? 16 : random.within(4...(10 * rounds))
      return Task(
        process: number == 0 ? 0 : random.below(processCount), faultsInKernel: random.chance(perMille: 400),
        operations: style == .crowd && number > 0
          ? crowdedOperations(&random, page: last, count: length)
          : operations(
            &random, regions: regions, hot: hot, count: length, readsPerMille: Self.readsPerMille(style)))
    }
  }

  private static func readsPerMille(_ style: Style) -> Int {
    switch style {
    case .mixed, .crowd: 500
    case .brief: 800
    case .trimming: 900
    }
  }

  private static func operations(
    _ random: inout SimulationRandom, regions: [PageRange], hot: [PageIndex], count: Int, readsPerMille: Int
  ) -> [TenantTask.Operation] {
    let removesPerMille = readsPerMille > 800 ? 20 : random.pick([0, 100, 300])
    let pausesPerMille = random.pick([50, 200])
    let hotPerMille = random.pick([0, 300, 700])
    return (0..<count).map { _ in
      if random.chance(perMille: pausesPerMille) { return .pause(nanoseconds: UInt64(random.below(100_000))) }
      let page = random.chance(perMille: hotPerMille) ? random.pick(hot) : anyPage(&random, regions)
      if random.chance(perMille: removesPerMille), let region = regions.first(where: { $0.contains(page) }) {
        let length = min(random.within(1...6), page.distance(to: region.upperBound))
        return random.chance(perMille: 250) ? .forget(page..<(page + length)) : .remove(page..<(page + length))
      }
      return random.chance(perMille: readsPerMille) ? .read(page) : .write(page)
    }
  }

  /// A page is touched and removed at once, and left alone for long enough to be moved again.
  private static func crowdedOperations(
    _ random: inout SimulationRandom, page: PageIndex, count: Int
  ) -> [TenantTask.Operation] {
    var operations: [TenantTask.Operation] = []
    while operations.count < count {
      switch random.below(4) {
      case 0: operations.append(.write(page))
      case 1, 2: operations += [.read(page), .remove(page..<(page + 1))]
      default: operations.append(.pause(nanoseconds: UInt64(random.below(60_000))))
      }
    }
    return operations
  }

  private static func anyPage(_ random: inout SimulationRandom, _ regions: [PageRange]) -> PageIndex {
    let region = random.pick(regions)
    return region.lowerBound + random.below(region.count)
  }

  /// Somebody holds pages of some huge pages. Their readers may see zeros while they move (only write protection stands
  /// then) but live, so every `enable` by the caller is one with stopped tasks.
  private mutating func pin(_ layout: Layout, _ random: inout SimulationRandom) {
    for _ in 0..<random.within(1...4) {
      let request = random.pick(requests)
      let page = geometry.pages(inBytes: request.offset) + random.below(geometry.pages(inBytes: request.size))
      pinnedHugePages.insert(SIMD2(request.file, page >> geometry.hugePageOrder))
    }
    for index in commands.indices {
      if case .enable(.caller, _) = commands[index].action { commands[index].action = .enable(.caller, isPaused: true) }
    }
  }
}

extension HistoryPlan: CustomStringConvertible {
  package var description: String {
    let regions = requests.map { request in
      let (offset, size) = (geometry.pages(inBytes: request.offset), geometry.pages(inBytes: request.size))
      return "memfd \(request.file) + \(offset): \(size) pages"
    }
    let commands = commands.map { command in
      "\(command.action)" + (command.abortsAfter.map { ", aborted after \($0) steps" } ?? "")
    }
    let tasks = tasks.enumerated().map { number, task in
      let operations = task.operations.map(\.text).joined(separator: ", ")
      return "task \(number) of process \(task.process)\(task.faultsInKernel ? " (in the kernel)" : ""): \(operations)"
    }
    let limits = "\(shortagesPerMille) shortages per mille, limits \(stagingLimit ?? -1) and \(slotLimit ?? -1)"
    let outside = "\(limits); \(processCount) processes; \(pinnedHugePages.count) pinned; \(policy); \(faults)"
    return "seed \(seed); huge pages of \(geometry.hugePagePages); \(regions.joined(separator: "; ")); \(outside)\n"
      + "  commands: \(commands.joined(separator: "; "))\n  deaths: \(deaths)\n  \(tasks.joined(separator: "\n  "))"
  }
}

extension TenantTask.Operation {
  fileprivate var text: String {
    switch self {
    case .read(let page): "read \(page.rawValue)"
    case .write(let page): "write \(page.rawValue)"
    case .remove(let range): "remove \(range.text)"
    case .forget(let range): "forget \(range.text)"
    case .pause: "pause"
    }
  }
}
