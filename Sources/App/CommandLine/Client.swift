internal import Adapters

/// The command line's side of the protocol.
struct Client {
  struct Failure: Error {
    let message: String
    /// The daemon's own refusal, where there is one.
    var reply: JSONValue?
  }

  private let socket: SequencedSocket

  init(path: String) throws(Failure) {
    do throws(SystemError) { socket = try SequencedSocket(connectingTo: path) } catch {
      guard error.errorNumber != Self.accessDenied else {
        throw Failure(
          message: "you may not use the daemon's socket \(path): its owner can let you, with 'swap-monitor serve' "
            + "--socket-group or --socket-mode")
      }
      throw Failure(
        message:
          "no daemon answers at \(path) (\(errorText(error.errorNumber))). Start one with 'swap-monitor serve', or "
          + "name its socket with --socket or $SWAP_MONITOR_SOCKET")
    }
  }

  /// Sends a request and waits for its reply, good or bad.
  func exchange(_ request: [String: JSONValue], descriptors: [Descriptor] = []) throws(Failure) -> JSONValue {
    do throws(SystemError) {
      _ = try socket.send(JSONValue.object(request).bytes, descriptors: descriptors)
      guard case .packet(let packet) = try socket.receive(), let reply = JSONValue.parse(packet.bytes) else {
        throw SystemError("reading the daemon's reply: it closed the connection", errorNumber: 0)
      }
      return reply
    } catch { throw Failure(message: error.errorNumber == 0 ? error.operation : error.description) }
  }

  /// Sends a request; a refusal is thrown.
  func ask(_ request: [String: JSONValue], descriptors: [Descriptor] = []) throws(Failure) -> JSONValue {
    let reply = try exchange(request, descriptors: descriptors)
    if reply["ok"]?.isTrue == true { return reply }
    let error = reply["error"]
    throw Failure(
      message: "\(error?["message"]?.text ?? "the daemon's reply is malformed") (\(error?["code"]?.text ?? "no code"))",
      reply: reply)
  }

  /// EACCES.
  private static let accessDenied: Int32 = 13

  /// All pages of `list`.
  func list() throws(Failure) -> [JSONValue] {
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
