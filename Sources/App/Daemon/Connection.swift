internal import Adapters

/// A client's connection, as the control thread sees it. One request at a time is carried out; the next one stays in the
/// socket until the reply is sent.
final class Connection {
  let token: UInt64
  let socket: SequencedSocket
  let user: UInt32
  let process: ProcessHandle?
  /// The tenant that this connection registered.
  var tenant: Tenant.Identifier?
  /// The `id` of the request that is being carried out.
  var pendingIdentifier: [UInt8]?
  var isBusy = false
  /// A reply that the client has not made room for.
  var unsentReply: [UInt8]?
  /// The other end hung up while a request was carried out.
  var isHungUp = false

  init(token: UInt64, socket: SequencedSocket, user: UInt32, process: ProcessHandle?) {
    self.token = token
    self.socket = socket
    self.user = user
    self.process = process
  }
}
