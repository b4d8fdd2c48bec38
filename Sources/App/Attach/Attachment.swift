internal import Adapters
internal import Domain

/// What ties a tenant to a process that never asked to be one.
struct Attachment: Codable, Equatable {
  /// Of the userfaultfd, in the process.
  let number: Int32
  /// Of the monitor that the machine is paused through; nil where it is not.
  let monitor: String?
  /// Whoever attached to it may not have us talk to other processes' monitors.
  let isForeign: Bool
}

/// A process that is being attached to: what was found in it, and made. Undone by the assistant, unless it is kept.
struct AttachedProcess: Sendable {
  let request: AttachRequest
  let process: ProcessHandle
  let reply: AssistantReply
  let descriptors: [Descriptor]
  private let isForeign: Bool
  private let link: AssistantLink

  /// Waits for the process and its monitor; not for the control thread.
  init(_ request: AttachRequest, _ process: ProcessHandle, isForeign: Bool, _ keeper: KeeperLink) throws(ProtocolError)
  {
    if let path = request.qmp {
      do throws(QEMUMonitor.Failure) {
        _ = try QEMUMonitor(path: path, of: process, isForeign: isForeign).isRunning
      } catch {
        throw ProtocolError(.invalidRequest, "qmp: \(error.message)")
      }
    }
    do throws(SystemError) { link = AssistantLink(try keeper.assist()) } catch {
      throw ProtocolError(.internal, error.description)
    }
    try link.send(
      AssistantRequest.attach(
        regions: request.regions ?? [], isTrial: request.isTrial, handsDevice: !isForeign), [process.descriptor])
    (reply, descriptors) = try link.receive(AssistantReply.self)
    if let error = reply.error { throw error }
    (self.request, self.process, self.isForeign) = (request, process, isForeign)
  }

  var attachment: Attachment { Attachment(number: reply.number, monitor: request.qmp, isForeign: isForeign) }

  func keep() {
    attempt { try link.send(AssistantRequest.keep) }  // at worst, the copy there is closed
  }

  /// What the process would have asked for by itself.
  func registration(as name: String) -> RegisterRequest {
    RegisterRequest(
      protocol: 1, tenant: name, freeze: request.freeze,
      regions: reply.regions.compactMap { region in
        region.memfd.map {
          RegisterRequest.RegionField(
            address: WholeNumber(region.address), size: WholeNumber(region.size), memfd: $0,
            offset: WholeNumber(region.offset))
        }
      })
  }

  var regions: JSONValue {
    .array(
      reply.regions.map { region in
        var members: [String: JSONValue] = [
          "address": .unsigned(region.address), "size": .unsigned(region.size), "name": .string(region.name),
          "taken": .bool(region.memfd != nil),
        ]
        if let complaint = region.complaint { members["reason"] = .string(complaint) }
        return .object(members)
      })
  }

  /// Closes the process's copy of the userfaultfd.
  ///
  /// - Returns: what has gone wrong with that.
  static func leave(_ process: UserfaultProcess, _ attachment: Attachment, _ keeper: KeeperLink) -> String? {
    guard let handle = process.handle, handle.isAlive else { return nil }
    do {
      let link = AssistantLink(try keeper.assist())
      try link.send(
        AssistantRequest.detach(number: attachment.number), [handle.descriptor, process.userfaultfd])
      return try link.receive(AssistantReply.self).message.error?.message
    } catch let error as ProtocolError { return error.message } catch { return "\(error)" }
  }
}
