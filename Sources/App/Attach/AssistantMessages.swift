internal import Adapters
internal import FoundationEssentials

/// What a worker asks of its assistant, a packet of JSON each.
enum AssistantRequest: Codable {
  /// Finds the guest memory of the process whose pidfd comes along, and makes a userfaultfd in it. What was made there is
  /// closed again, unless `keep` follows.
  case attach(regions: [String], isTrial: Bool, handsDevice: Bool)
  case keep
  /// Closes the copy of a userfaultfd that the process has: pidfd and our copy come along.
  case detach(number: Int32)
}

/// The answer to `attach` and `detach`. To an `attach` that was no trial come the userfaultfd and the memfds.
struct AssistantReply: Codable {
  struct Region: Codable {
    let address: UInt64
    let size: UInt64
    let offset: UInt64
    let name: String
    /// Of the memfds that come along; nil for a region that is not taken.
    var memfd: Int?
    /// Why it is not taken.
    var complaint: String?
  }

  var error: ProtocolError?
  var regions: [Region] = []
  /// Of the userfaultfd in the process.
  var number: Int32 = -1
  var heldMicroseconds = 0
}

/// Either end of the link between a worker and its assistant.
struct AssistantLink: Sendable {
  private let socket: SequencedSocket
  /// An answer takes milliseconds; who waits for longer waits for a process that hangs.
  private static let limitNanoseconds: UInt64 = 10_000_000_000

  init(_ socket: SequencedSocket) { self.socket = socket }

  func send(_ message: some Encodable, _ descriptors: [Descriptor] = []) throws(ProtocolError) {
    do {
      guard try socket.send(Array(JSONEncoder().encode(message)), descriptors: descriptors) else {
        throw ProtocolError(.internal, "the assistant does not read")
      }
    } catch { throw ProtocolError(.internal, "telling the assistant: \(error)") }
  }

  /// - Parameter waits: however long it takes.
  func receive<Message: Decodable>(_ type: Message.Type, waits: Bool = false) throws(ProtocolError) -> (
    message: Message, descriptors: [Descriptor]
  ) {
    do {
      if !waits, Readable.wait(for: [socket.descriptor], timeoutNanoseconds: Self.limitNanoseconds).isEmpty {
        throw ProtocolError(.internal, "the assistant does not answer")
      }
      guard case .packet(let packet) = try socket.receive() else {
        throw ProtocolError(.internal, "the assistant has died")
      }
      return (try JSONDecoder().decode(type, from: Data(packet.bytes)), packet.descriptors)
    } catch let error as ProtocolError { throw error } catch {
      throw ProtocolError(.internal, "the assistant: \(error)")
    }
  }
}
