internal import Adapters

/// What other threads tell the control thread.
enum Message: Sendable {
  case jobEnded(tenant: Tenant.Identifier, TenantRuntime.JobResult)
  /// The memory of one of the tenant's processes is no more.
  case processGone(tenant: Tenant.Identifier, UserfaultProcess)
  /// A process has joined the tenant, and its faults are being served; or why it could not.
  case processAdded(tenant: Tenant.Identifier, connection: UInt64, Result<UserfaultProcess, ProtocolError>)
  /// Forks have brought children, who are being served; or it was found out which processes they are.
  case childrenForked(tenant: Tenant.Identifier, [UserfaultProcess])
  case childrenIdentified(tenant: Tenant.Identifier, areAll: Bool)
  /// What the tenant's memfds hold.
  case counted(tenant: Tenant.Identifier, Result<Int, ProtocolError>)
  /// What a client wants to register has been looked at, and belongs to the tenant of that identifier, which is to be.
  case registered(Tenant.Identifier, connection: UInt64, AttachedProcess?, Result<Registration, ProtocolError>)
  /// A forgotten tenant's threads have ended.
  case ended(Tenant.Identifier)
  /// What a connection wants to attach to has been looked into; or why it could not.
  case attached(connection: UInt64, tenant: String, Result<AttachedProcess, ProtocolError>)
  /// The tenant's process is as it was before it was attached to, but for the complaint.
  case departed(tenant: Tenant.Identifier, complaint: String?)
}

/// Messages for the control thread. It needs no limit of its own: a tenant has one job, a connection one request, and
/// deaths are told once.
final class Mailbox: @unchecked Sendable {  // guarded by `monitor`
  let wakeUp: WakeUp
  private let monitor = Monitor()
  private var messages: [Message] = []

  init() throws(SystemError) { wakeUp = try WakeUp() }

  func post(_ message: Message) {
    monitor.withLock { messages.append(message) }
    wakeUp.signal()
  }

  func takeAll() -> [Message] {
    wakeUp.clear()
    return monitor.withLock {
      defer { messages = [] }
      return messages
    }
  }
}
