internal import Adapters
internal import Domain

/// The one place where a tenant's ports are chosen and put together.
struct LinuxPorts: TenantPorts {
  let table: PageTables
  let lock = PlainMutex()
  let gate = FairGate()
  let guest: GuestFiles
  let staging: StagingArea
  let file: SwapFileStore
  let readAhead: ReadAheadThread
  let processList: ProcessList
  let mappingSearch: MappingSearch
  let freezer: SignalFreezer
  let headroom: TenantHeadroom
  let clock = SystemClock()

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
    let headroom = DaemonHeadroom()
  }

  init(
    map: RegionMap, userfaultfd: Descriptor, process: ProcessHandle, memfds: [Descriptor], files: [GuestFile],
    shared: Shared
  )
    throws(SystemError)
  {
    table = try PageTables(pageCount: map.pageCount, geometry: shared.geometry)
    staging = StagingArea(
      pageCount: map.pageCount, geometry: shared.geometry, hasher: table.hasher, limit: shared.limits.staging)
    let identities = files.map(\.identity)
    guest = try GuestFiles(map: map, files: memfds, identities: identities, staging: staging)
    file = try SwapFileStore(
      directory: shared.swapDirectory, geometry: shared.geometry, staging: staging, floor: shared.floor,
      slots: map.pageCount, limit: shared.limits.swapFiles)
    readAhead = try ReadAheadThread(
      file: file, budget: shared.lockedMemory, geometry: shared.geometry, hasher: table.hasher)
    processList = ProcessList([
      try UserfaultProcess(userfaultfd: userfaultfd, handle: process, map: map, staging: staging)
    ])
    headroom = TenantHeadroom(shared: shared.headroom, processes: processList, geometry: shared.geometry)
    mappingSearch = MappingSearch(map: map, files: identities)
    freezer = SignalFreezer(
      processes: { [processList] in processList.handles },
      identify: { [processList, mappingSearch, gate] in mappingSearch.identify(processList.all, gate: gate) })
  }

  var processes: [UserfaultProcess] { processList.all }
  func append(_ process: UserfaultProcess) { processList.append(process) }
  func strangeMappings() -> [StrangeMapping] { mappingSearch.strangers(to: processList, gate: gate) }
  func identifyChildren() { mappingSearch.identify(processList.all, gate: gate) }
  func createStaging() throws(PortFailure) { try staging.create() }
  func destroyStaging() { staging.destroy() }
}
