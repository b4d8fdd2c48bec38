internal import Adapters

/// A client's connection, as the control thread sees it. One request at a time is carried out; the next one stays in the
/// socket until the reply is sent.
final class Connection {
  let token: UInt64
  let socket: SequencedSocket
  let user: UInt32
  let process: ProcessHandle?
  /// What is left of its request, should this worker die.
  let record: RequestRecord
  /// The request that is carried out was taken by an earlier worker, which may have carried it out.
  var isReplayed = false
  /// The tenant that this connection registered.
  var tenant: Tenant.Identifier?
  /// The `id` of the request that is being carried out.
  var pendingIdentifier: [UInt8]?
  var isBusy = false
  /// How many came with that request.
  var requestDescriptors = 0
  /// A reply that the client has not made room for.
  var unsentReply: [UInt8]?
  /// The other end hung up while a request was carried out.
  var isHungUp = false

  init(token: UInt64, socket: SequencedSocket, peer: Peer, record: RequestRecord) {
    self.token = token
    self.socket = socket
    user = peer.user
    process = peer.process
    self.record = record
  }
}
