package import Domain

/// Memory of one owner, as /proc or /sys tells it. It is looked at anew after some milliseconds (more, where there is so much
/// that nobody could have taken half of it by then), and when what was seen has been handed out; so a look, up to half a
/// millisecond, costs a move next to nothing.
final class MemoryGauge: @unchecked Sendable {  // guarded by `lock`
  private static let validityNanoseconds = 10_000_000..<100_000_000
  /// Nobody takes memory faster than 10 GiB a second.
  private static let nanosecondsPerMebibyte = 100_000
  private let lock = PlainMutex()
  private let look: @Sendable () -> Int?
  private var room = 0
  private var lookedNanoseconds: UInt64?

  /// - Parameter look: how many bytes may be taken; nil where there is no limit.
  init(_ look: @escaping @Sendable () -> Int?) { self.look = look }

  /// What is handed out counts as taken until the next look, so that tenants do not all get the same.
  ///
  /// - Parameter reserve: what is to be left.
  func take(_ bytes: Int, reserve: Int = 0) -> Bool {
    lock.lock()
    defer { lock.unlock() }
    let now = SystemClock().nowNanoseconds
    let isOld = lookedNanoseconds.map { now - $0 >= validityNanoseconds } ?? true
    if isOld || room - reserve < bytes {
      room = look() ?? .max
      lookedNanoseconds = now
    }
    guard room - reserve >= bytes else { return false }
    room -= bytes
    return true
  }

  private var validityNanoseconds: UInt64 {
    let untilHalf = max(0, room >> 21) * Self.nanosecondsPerMebibyte
    return UInt64(min(max(untilHalf, Self.validityNanoseconds.lowerBound), Self.validityNanoseconds.upperBound))
  }
}

/// What all tenants share: the machine's memory, and the daemon's own control group.
package final class DaemonHeadroom: Sendable {
  let machine: MemoryGauge
  let own: MemoryGauge

  /// MemAvailable leaves out what the kernel itself keeps free. With less than this the machine reclaims from everybody, and a
  /// fault may have to wait until the daemon's own code is read from the disk again.
  let machineReserve: Int
  /// What is given back at once may go below that (moving pages out is what a machine short of memory needs), but not so far
  /// that the kernel kills somebody for it.
  static let briefMachineReserve = 32 << 20
  /// What the daemon may come to need later without asking: buffers to read ahead, books and page tables of what is staged
  /// (about 1/128 of it).
  static func ownReserve(_ limit: Int) -> Int { PrefetchBudget.largestBytes + limit / 128 }

  package convenience init() { self.init(groups: ControlGroups(), memoryInformation: "/proc/meminfo") }

  init(groups: ControlGroups, memoryInformation: String) {
    machine = MemoryGauge { Machine.memory("MemAvailable:", in: memoryInformation) }
    machineReserve = min(256 << 20, (Machine.memory("MemTotal:", in: memoryInformation) ?? 0) / 16)
    own = MemoryGauge { groups.room(of: "self", mayBeSlowed: false, reserve: Self.ownReserve) }
  }
}

/// What one tenant may take.
package struct TenantHeadroom: MemoryHeadroom {
  private let shared: DaemonHeadroom
  private let tenant: MemoryGauge
  private let geometry: PageGeometry

  /// Little: whatever came from the tenant's group has had room there before. It is for what its processes take between a
  /// look and the charge.
  static let tenantReserve = 1 << 20

  /// - Parameter processes: the first that is alive is charged for what comes back.
  package init(shared: DaemonHeadroom, processes: ProcessList, geometry: PageGeometry) {
    self.shared = shared
    self.geometry = geometry
    tenant = MemoryGauge {
      guard let process = processes.handles.first ?? nil else { return nil }
      return ControlGroups().room(of: "\(process.pid)", mayBeSlowed: true) { _ in Self.tenantReserve }
    }
  }

  package func shortage(of pages: Int, for use: MemoryUse) -> MemoryShortage? {
    let bytes = geometry.bytes(inPages: pages)
    let reserve =
      use == .returning(fromFile: true) ? shared.machineReserve : DaemonHeadroom.briefMachineReserve
    guard shared.machine.take(bytes, reserve: reserve) else { return .machine }
    switch use {
    case .staging: return shared.own.take(bytes) ? nil : .ownLimit
    case .returning: return tenant.take(bytes) ? nil : .tenantLimit
    }
  }
}
