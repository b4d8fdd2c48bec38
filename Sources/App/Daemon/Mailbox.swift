internal import Adapters

/// What other threads tell the control thread.
enum Message: Sendable {
  case jobEnded(tenant: Tenant.Identifier, TenantRuntime.JobResult)
  /// A process of the tenant seems to be dead: look.
  case processGone(tenant: Tenant.Identifier)
  /// An answer that was worked out elsewhere.
  case reply(connection: UInt64, JSONValue)
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
