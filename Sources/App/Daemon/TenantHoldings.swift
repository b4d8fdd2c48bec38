internal import Adapters
internal import Domain

/// What a held descriptor is. The numbers are part of what one worker leaves to the next (`PageTables.layoutVersion`).
enum HeldRole: UInt32 {
  /// Of group 0.
  case listener = 1
  /// The process that shares the worker's descriptors (`SharedDescriptors`).
  case sharer = 2
  /// Of a connection's group, which is its token.
  case socket = 10
  case request = 11
  case requestDescriptor = 12
  /// Of a tenant's group, which is its serial.
  case tenantRecord = 20
  case memfd = 21
  case tables = 22
  case staging = 23
  case swapFile = 24
  case stops = 25
  case pause = 26
  /// Of a process of the tenant's, by its index.
  case userfaultfd = 30
  case pidfd = 31
  case events = 32
  case processRecord = 33

  func key(_ group: UInt64, _ index: Int = 0) -> HeldKey {
    HeldKey(group: group, role: rawValue, index: UInt32(index))
  }

  static let listenerKey = HeldRole.listener.key(0)
  static let sharerKey = HeldRole.sharer.key(0)
}

/// What the keeper holds of one tenant. Threads of the tenant use it, besides the control thread.
final class TenantHoldings: @unchecked Sendable {  // guarded by `lock`
  /// What an earlier worker has left.
  struct Kept {
    let tables: Descriptor
    let swapFile: Descriptor
    let staging: Descriptor?
  }

  let link: KeeperLink
  let group: UInt64
  private let lock = PlainMutex()
  private var indexes: [ObjectIdentifier: Int] = [:]
  private var nextIndex = 0

  init(link: KeeperLink, group: UInt64) {
    self.link = link
    self.group = group
  }

  func hold(_ descriptor: Descriptor, as role: HeldRole, index: Int = 0) throws(SystemError) {
    try link.hold([(role.key(group, index), descriptor)])
  }

  func drop(_ role: HeldRole) { link.drop(role.key(group)) }

  func dropAll() { link.drop(group: group) }

  func store(_ record: TenantRecord) throws(SystemError) {
    try link.store(record: record, as: HeldRole.tenantRecord.key(group))
  }

  /// Before the tenant's memory is registered.
  func hold(_ ports: LinuxPorts, memfds: [Descriptor]) throws(SystemError) {
    var entries = [
      (key: HeldRole.tables.key(group), descriptor: ports.table.file),
      (HeldRole.swapFile.key(group), ports.file.file),
    ]
    for (number, memfd) in memfds.enumerated() { entries.append((HeldRole.memfd.key(group, number), memfd)) }
    try link.hold(entries)
  }

  // MARK: Processes

  /// Before its memory is registered.
  func hold(_ process: UserfaultProcess) throws(SystemError) {
    let index = withIndex { nextIndex in
      defer { nextIndex += 1 }
      indexes[ObjectIdentifier(process)] = nextIndex
      return nextIndex
    }
    var entries = [
      (key: HeldRole.userfaultfd.key(group, index), descriptor: process.userfaultfd),
      (HeldRole.events.key(group, index), process.events.file),
    ]
    if let handle = process.handle { entries.append((HeldRole.pidfd.key(group, index), handle.descriptor)) }
    try link.hold(entries)
    try link.store(record: ProcessRecord(process), as: HeldRole.processRecord.key(group, index))
  }

  func holdIfNew(_ process: UserfaultProcess) {
    if withIndex({ _ in indexes[ObjectIdentifier(process)] }) != nil { return }
    // Where the keeper can't, the child is served all the same, as long as this worker lives.
    attempt { try hold(process) }
  }

  /// A child's number has been found out. Does nothing where it is held.
  func holdHandle(of process: UserfaultProcess) throws(SystemError) {
    guard let handle = process.handle, let index = withIndex({ _ in indexes[ObjectIdentifier(process)] }),
      !link.isHeld(HeldRole.pidfd.key(group, index))
    else { return }
    try hold(handle.descriptor, as: .pidfd, index: index)
  }

  func drop(_ process: UserfaultProcess) {
    guard let index = withIndex({ _ in indexes.removeValue(forKey: ObjectIdentifier(process)) }) else { return }
    drop(index: index)
  }

  func drop(index: Int) {
    for role in [HeldRole.userfaultfd, .events, .pidfd, .processRecord] { link.drop(role.key(group, index)) }
  }

  /// It is held already, under this index.
  func adopt(_ process: UserfaultProcess, index: Int) {
    withIndex { nextIndex in
      indexes[ObjectIdentifier(process)] = index
      nextIndex = max(nextIndex, index + 1)
    }
  }

  private func withIndex<Result>(_ body: (inout Int) -> Result) -> Result {
    lock.lock()
    defer { lock.unlock() }
    return body(&nextIndex)
  }

  // MARK: The freeze

  /// - Parameter pids: whom we are about to stop, or have stopped; none when all go on.
  func recordStops(_ pids: [Int32]) throws(SystemError) {
    if pids.isEmpty { return drop(.stops) }
    try link.store(Array(pids.map(String.init).joined(separator: " ").utf8), as: HeldRole.stops.key(group))
  }

  /// - Parameter isPaused: we are about to pause the tenant's machine through its monitor, or have done so.
  func recordPause(_ isPaused: Bool) throws(SystemError) {
    if !isPaused { return drop(.pause) }
    try link.store([1], as: HeldRole.pause.key(group))
  }

  var recordedPause: Bool { link.held[HeldRole.pause.key(group)] != nil }

  var recordedStops: [Int32] {
    String(decoding: link.stored(HeldRole.stops.key(group)) ?? [], as: UTF8.self).split(separator: " ").compactMap {
      Int32($0)
    }
  }
}
