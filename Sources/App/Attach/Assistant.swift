internal import Adapters
internal import Domain

/// What a worker has others do that takes privilege: a process that makes system calls in the place of another. It does one
/// thing, and ends.
enum Assistant {
  static func run(_ words: [String]) throws {
    Machine.nameProcess(BorrowedUserfaultfd.tracerName)
    Machine.hurry()
    guard words.isEmpty, let descriptor = Descriptor(inherited: KeeperLink.workerDescriptor) else {
      throw UsageError(message: "assistant: is for swap-monitor itself")
    }
    let link = AssistantLink(SequencedSocket(adopting: descriptor))
    let (request, descriptors) = try link.receive(AssistantRequest.self)
    do throws(ProtocolError) {
      let process = try process(descriptors)
      switch request {
      case .attach(let regions, let isTrial, let handsDevice):
        try attach(process, regions, isTrial: isTrial, handsDevice: handsDevice, link)
      case .keep: break
      case .detach(let number):
        guard descriptors.count == 2 else { break }
        do throws(AttachFailure) {
          try BorrowedUserfaultfd.close(number, in: process, sameAs: descriptors[1])
        } catch { throw ProtocolError(error) }
        try link.send(AssistantReply())
      }
    } catch { try link.send(AssistantReply(error: error)) }
  }

  private static func process(_ descriptors: [Descriptor]) throws(ProtocolError) -> ProcessHandle {
    let process = descriptors.first.flatMap { pidfd in attempt { try ProcessHandle(pidfd: pidfd) } }
    if let process { return process }
    throw ProtocolError(.invalidRequest, "pid: the process has died")
  }

  private static func attach(
    _ process: ProcessHandle, _ wanted: [String], isTrial: Bool, handsDevice: Bool, _ link: AssistantLink
  )
    throws(ProtocolError)
  {
    guard let geometry = Machine.pageGeometry() else { throw ProtocolError(.internal, "the page size is odd") }
    let search: GuestMemorySearch
    do throws(AttachFailure) { search = try GuestMemorySearch(process, geometry: geometry) } catch {
      throw ProtocolError(error)
    }
    var (reply, memfds) = try choose(search.candidates, wanted, process)
    if isTrial { return try link.send(reply) }
    let made: BorrowedUserfaultfd
    do throws(AttachFailure) { made = try BorrowedUserfaultfd.make(in: process, handsDevice: handsDevice) } catch {
      throw ProtocolError(error)
    }
    reply.number = made.number
    reply.heldMicroseconds = Int(made.heldNanoseconds / 1000)
    let answer = attempt {
      try link.send(reply, [made.descriptor] + memfds)
      return try link.receive(AssistantRequest.self, waits: true).message
    }
    if case .keep = answer { return }
    // Nobody wants it any more. (Where that fails, it is no harm: nothing is registered with it.)
    attempt { try BorrowedUserfaultfd.close(made.number, in: process, sameAs: made.descriptor) }
  }

  /// Which of the memory becomes the tenant's: what is asked for, by name or address; else all that can.
  private static func choose(_ found: [GuestMemorySearch.Candidate], _ wanted: [String], _ process: ProcessHandle)
    throws(ProtocolError) -> (AssistantReply, [Descriptor])
  {
    var reply = AssistantReply()
    var memfds: [Descriptor] = []
    for name in wanted where !found.contains(where: { $0.isMeant(by: name) }) {
      throw ProtocolError(
        .invalidRegion,
        "regions: \"\(name.shortened)\" is no shared memfd mapping of process \(process.pid); \(list(found)) \(found.isEmpty ? "is" : "are")"
      )
    }
    for candidate in found {
      var region = AssistantReply.Region(
        address: candidate.address, size: candidate.size, offset: candidate.offset, name: candidate.name,
        complaint: candidate.complaint)
      let isWanted = wanted.contains { candidate.isMeant(by: $0) }
      if isWanted, let complaint = candidate.complaint {
        throw ProtocolError(.invalidRegion, "regions: \(candidate.name) at \(candidate.hexadecimal): \(complaint)")
      }
      if !wanted.isEmpty && !isWanted { region.complaint = region.complaint ?? "was not asked for" }
      if wanted.isEmpty && candidate.isSmall { region.complaint = region.complaint ?? "is small; name it to take it" }
      if region.complaint == nil, let file = candidate.file {
        region.memfd = memfds.count
        memfds.append(file)
      }
      reply.regions.append(region)
    }
    guard memfds.isEmpty else { return (reply, memfds) }
    let reasons = reply.regions.map { "\($0.name): \($0.complaint ?? "not taken")" }.joined(separator: "; ")
    throw ProtocolError(
      .unsupported,
      "process \(process.pid) has no memory that can be taken"
        + (reasons.isEmpty ? "" : " (\(reasons))")
        + "; what is wanted is a shared mapping of a memfd, sealed against shrinking, as QEMU makes it for "
        + "-object memory-backend-memfd,id=mem,size=…,share=on -machine memory-backend=mem")
  }

  private static func list(_ found: [GuestMemorySearch.Candidate]) -> String {
    found.isEmpty ? "none" : found.map { "\($0.name) (\($0.hexadecimal))" }.joined(separator: ", ")
  }
}

extension GuestMemorySearch.Candidate {
  var hexadecimal: String { "0x" + String(address, radix: 16) }

  /// - Parameter name: the memfd's, or an address in it, in hexadecimal.
  fileprivate func isMeant(by name: String) -> Bool { name == self.name || name.lowercased() == hexadecimal }
}

extension ProtocolError {
  init(_ failure: AttachFailure) {
    let code: ErrorCode =
      switch failure.kind {
      case .notPermitted: .permissionDenied
      case .gone: .invalidRequest
      case .unsupported: .unsupported
      case .failed: .internal
      }
    self.init(code, failure.message)
  }
}
