internal import Adapters

/// The command line's side of the protocol.
struct Client {
  private let socket: SequencedSocket
  /// Ends waiting for a reply. (Without it, a signal does what it always does.)
  var signals: EndSignals?

  /// Has something to read when a reply has come.
  var descriptor: Descriptor { socket.descriptor }

  init(path: String) throws(CommandFailure) {
    do throws(SystemError) { socket = try SequencedSocket(connectingTo: path) } catch {
      guard error.errorNumber != Self.accessDenied else {
        throw CommandFailure(
          code: "permission-denied",
          message: "you may not use the daemon's socket \(path): its owner can let you, with 'swap-monitor serve' "
            + "--socket-group or --socket-mode")
      }
      throw CommandFailure(
        code: "no-daemon",
        message:
          "no daemon answers at \(path) (\(errorText(error.errorNumber))). Start one with 'swap-monitor serve', or "
          + "name its socket with --socket or $SWAP_MONITOR_SOCKET")
    }
  }

  func send(_ request: [String: JSONValue], descriptors: [Descriptor] = []) throws(CommandFailure) {
    do throws(SystemError) { _ = try socket.send(JSONValue.object(request).bytes, descriptors: descriptors) } catch {
      throw Self.gone(error.description)
    }
  }

  /// Waits for the reply to what was sent, good or bad.
  func receive() throws(CommandFailure) -> JSONValue {
    if let signals, Readable.wait(for: [descriptor, signals.descriptor]).contains(where: { $0 === signals.descriptor })
    {
      throw CommandFailure(code: CommandFailure.interrupted, message: "interrupted")
    }
    let received: SequencedSocket.Received
    do throws(SystemError) { received = try socket.receive() } catch { throw Self.gone(error.description) }
    guard case .packet(let packet) = received else { throw Self.gone("it closed the connection") }
    guard let reply = JSONValue.parse(packet.bytes) else { throw Self.gone("what it replied is not JSON") }
    return reply
  }

  /// Sends a request and waits for its reply, good or bad.
  func exchange(_ request: [String: JSONValue], descriptors: [Descriptor] = []) throws(CommandFailure) -> JSONValue {
    try send(request, descriptors: descriptors)
    return try receive()
  }

  /// Sends a request; a refusal is thrown.
  func ask(_ request: [String: JSONValue], descriptors: [Descriptor] = []) throws(CommandFailure) -> JSONValue {
    try Self.accepted(try exchange(request, descriptors: descriptors))
  }

  /// - Throws: a refusal.
  static func accepted(_ reply: JSONValue) throws(CommandFailure) -> JSONValue {
    if reply["ok"]?.isTrue == true { return reply }
    let error = reply["error"]
    let code = error?["code"]?.text ?? "no code"
    let message = error?["message"]?.text ?? "the daemon's reply is malformed"
    throw CommandFailure(code: code, message: "\(message) (\(code))", report: reply)
  }

  /// EACCES.
  private static let accessDenied: Int32 = 13

  private static func gone(_ how: String) -> CommandFailure {
    CommandFailure(
      code: "no-daemon",
      message: "the daemon is gone (\(how)). Look at its log, and start it again with 'swap-monitor serve'")
  }

  /// All pages of `list`.
  func list() throws(CommandFailure) -> [JSONValue] {
    var tenants: [JSONValue] = []
    var reply = try ask(["op": .string("list")])
    tenants += reply["tenants"]?.elements ?? []
    while reply["more"]?.isTrue == true, let last = tenants.last?["tenant"]?.text {
      reply = try ask(["op": .string("list"), "after": .string(last)])
      tenants += reply["tenants"]?.elements ?? []
    }
    return tenants
  }
}
