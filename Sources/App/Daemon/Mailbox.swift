internal import Adapters

/// What other threads have for the control thread to do. It needs no limit of its own: a tenant has one job, a connection one
/// request, and deaths are told once.
final class Mailbox: @unchecked Sendable {  // guarded by `monitor`
  typealias Task = @Sendable (Server) -> Void

  let wakeUp: WakeUp
  private let monitor = Monitor()
  private var tasks: [Task] = []

  init() throws(SystemError) { wakeUp = try WakeUp() }

  func post(_ task: @escaping Task) {
    monitor.withLock { tasks.append(task) }
    wakeUp.signal()
  }

  /// The same of a tenant, if that is still there then.
  func post(_ identifier: Tenant.Identifier, _ task: @escaping @Sendable (Server, Tenant) -> Void) {
    post { server in if let tenant = server.tenants[identifier] { task(server, tenant) } }
  }

  func takeAll() -> [Task] {
    wakeUp.clear()
    return monitor.withLock {
      defer { tasks = [] }
      return tasks
    }
  }
}
