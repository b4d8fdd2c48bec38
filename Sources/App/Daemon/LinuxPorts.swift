internal import Adapters
internal import Domain

/// The one place where a tenant's ports are chosen and put together. A class, as generic code copies it often.
final class LinuxPorts: TenantPorts {
  let table: PageTables
  let lock = PlainMutex()
  let gate = FairGate()
  let guest: GuestFiles
  let staging: StagingArea
  let file: SwapFileStore
  let readAhead: ReadAheadThreads
  let processList: ProcessList
  let mappingSearch: MappingSearch
  let freezer: TenantFreezer
  let headroom: TenantHeadroom
  let helper: HelperThread
  let clock = SystemClock()
  let holdings: TenantHoldings

  /// What `serve` was told; nil is no limit.
  struct ConfiguredLimits: Sendable {
    let staging: SharedPageLimit?
    let swapFiles: SharedPageLimit?
    /// Of one tenant's swap file.
    let slots: Int?
  }

  /// What all tenants share.
  struct Shared: Sendable {
    let geometry: PageGeometry
    let swapDirectory: String
    let floor: FreeDiskFloor
    let lockedMemory: LockedMemory
    let limits: ConfiguredLimits
    let log: Log
    let headroom = DaemonHeadroom()
    let faultActivity = FaultActivity()
  }

  /// - Parameters:
  ///   - kept: what an earlier worker has left of the tenant; nil for a new one.
  ///   - attachment: of a tenant that was attached to.
  ///   - holdings: where everything is held that must survive this worker.
  init(
    map: RegionMap, memfds: [Descriptor], files: [GuestFile], shared: Shared, holdings: TenantHoldings,
    attachment: Attachment? = nil, kept: TenantHoldings.Kept? = nil
  ) throws(SystemError) {
    self.holdings = holdings
    helper = HelperThread(activity: shared.faultActivity)
    if let kept {
      table = try PageTables(adopting: kept.tables, pageCount: map.pageCount, geometry: shared.geometry)
    } else {
      table = try PageTables(pageCount: map.pageCount, geometry: shared.geometry)
    }
    staging = StagingArea(
      pageCount: map.pageCount, geometry: shared.geometry, hasher: table.hasher, limit: shared.limits.staging,
      budget: shared.lockedMemory)
    if let file = kept?.staging { staging.adopt(file) }
    let identities = files.map(\.identity)
    guest = GuestFiles(map: map, files: memfds, identities: identities, staging: staging)
    if let kept {
      file = SwapFileStore(
        adopting: kept.swapFile, geometry: shared.geometry, staging: staging, floor: shared.floor,
        slots: map.pageCount, limit: shared.limits.swapFiles)
    } else {
      file = try SwapFileStore(
        directory: shared.swapDirectory, geometry: shared.geometry, staging: staging, floor: shared.floor,
        slots: map.pageCount, limit: shared.limits.swapFiles)
    }
    readAhead = try ReadAheadThreads(
      file: file, budget: shared.lockedMemory, geometry: shared.geometry, hasher: table.hasher)
    processList = ProcessList([])
    headroom = TenantHeadroom(shared: shared.headroom, processes: processList, geometry: shared.geometry)
    mappingSearch = MappingSearch(map: map, files: identities)
    let signals = SignalFreezer(
      processes: { [processList] in processList.handles },
      identify: { [processList, mappingSearch, gate] in mappingSearch.identify(processList.all, gate: gate) },
      record: { [processList, holdings] (pids) throws(SystemError) in
        // Whom the next worker does not know by its pidfd it can't let go on.
        if !pids.isEmpty { for process in processList.all { try holdings.holdHandle(of: process) } }
        try holdings.recordStops(pids)
      })
    freezer = TenantFreezer(
      signals: signals, attachment: attachment, process: { [processList] in processList.handles.first ?? nil },
      isPaused: holdings.recordedPause, log: shared.log,
      record: { [holdings] (isPaused) throws(SystemError) in try holdings.recordPause(isPaused) })
  }

  var processes: [UserfaultProcess] { processList.all }
  func append(_ process: UserfaultProcess) {
    // A forked child comes without having been held: the sooner the better.
    holdings.holdIfNew(process)
    processList.append(process)
  }
  func strangeMappings() -> [StrangeMapping] { mappingSearch.strangers(to: processList, gate: gate) }
  func identifyChildren() { mappingSearch.identify(processList.all, gate: gate) }
  func createStaging() throws(PortFailure) {
    try staging.create { (file) throws(SystemError) in try holdings.hold(file, as: .staging) }
  }
  func destroyStaging() {
    staging.destroy()
    holdings.drop(.staging)
  }
}
