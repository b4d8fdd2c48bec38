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
  let freezer: SignalFreezer
  let clock = SystemClock()

  /// What all tenants share.
  struct Shared: Sendable {
    let geometry: PageGeometry
    let swapDirectory: String
    let floor: FreeDiskFloor
    let lockedMemory: LockedMemory
  }

  init(
    map: RegionMap, userfaultfd: Descriptor, process: ProcessHandle, memfds: [Descriptor], files: [GuestFile],
    shared: Shared
  )
    throws(SystemError)
  {
    table = try PageTables(pageCount: map.pageCount, geometry: shared.geometry)
    staging = StagingArea(pageCount: map.pageCount, geometry: shared.geometry, hasher: table.hasher)
    guest = try GuestFiles(map: map, files: memfds, identities: files.map(\.identity), staging: staging)
    file = try SwapFileStore(
      directory: shared.swapDirectory, geometry: shared.geometry, staging: staging, floor: shared.floor)
    readAhead = try ReadAheadThread(
      file: file, budget: shared.lockedMemory, geometry: shared.geometry, hasher: table.hasher)
    processList = ProcessList([
      try UserfaultProcess(userfaultfd: userfaultfd, handle: process, map: map, staging: staging)
    ])
    freezer = SignalFreezer { [processList] in processList.all.map(\.handle) }
  }

  var processes: [UserfaultProcess] { processList.all }
  func append(_ process: UserfaultProcess) { processList.append(process) }
  func createStaging() throws(PortFailure) { try staging.create() }
  func destroyStaging() { staging.destroy() }
}
