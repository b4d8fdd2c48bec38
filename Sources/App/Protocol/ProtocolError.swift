internal import Adapters
internal import Domain

/// The error codes of PROTOCOL.md.
enum ErrorCode: String, CaseIterable, Codable {
  case invalidRequest = "invalid-request"
  case tooLarge = "too-large"
  case unsupportedProtocol = "unsupported-protocol"
  case invalidRegion = "invalid-region"
  case regionOverlap = "region-overlap"
  case invalidDescriptor = "invalid-descriptor"
  case nameTaken = "name-taken"
  case noSuchTenant = "no-such-tenant"
  case permissionDenied = "permission-denied"
  case wrongState = "wrong-state"
  case aborted
  case freezeFailed = "freeze-failed"
  case noSpace = "no-space"
  case noMemory = "no-memory"
  case inputOutput = "io-error"
  case unsupported
  case `internal`
}

/// A refused or failed request.
struct ProtocolError: Error, Equatable, Codable {
  let code: ErrorCode
  /// For people: names the field, the value and what would be right.
  let message: String
  var state: TenantState?

  init(_ code: ErrorCode, _ message: String, state: TenantState? = nil) {
    self.code = code
    self.message = message
    self.state = state
  }

  var json: JSONValue {
    var members: [String: JSONValue] = ["code": .string(code.rawValue), "message": .string(message)]
    if let state { members["state"] = .string(state.rawValue) }
    return .object(members)
  }

  init(_ failure: JobFailure) {
    switch failure {
    case .port(let failure): self.init(failure)
    case .kernelAccess(let sign):
      self.init(
        .unsupported,
        "the memory can't be moved safely: \(sign), and I/O that is in flight into a page would be lost with it. Drain such "
          + "I/O and register with \"freeze\": \"caller\" (of a QEMU: attach with its QMP monitor, which drains it), or ask with \"accept_dma_risk\": true if none goes into the regions"
      )
    case .strangeMapping(let mapping):
      self.init(
        .unsupported,
        "the memory can't be moved safely: process \(mapping.process) (\(mapping.name)) uses it through a mapping that has not "
          + "been announced, and would read zeros in place of what is out. It must add-process or unmap it; or ask with "
          + "\"accept_strange_mappings\": true if it touches nothing there while pages are out")
    case .freezeTimedOut:
      self.init(
        .freezeFailed,
        "the tenant's processes did not all stop within \(EnableJob<LinuxPorts>.freezeLimitNanoseconds / 1_000_000) ms; "
          + "nothing has changed. A thread that hangs in the kernel (state D) can't be stopped: try again, or use "
          + "\"freeze\": \"caller\"")
    case .unreadable(let pages):
      self.init(
        .inputOutput,
        "\(pages.counted("page")) could not be read back from the swap file; what is not back gives SIGBUS when it is read, "
          + "and stays monitored. Everything else is back. Try again when the disk works")
    case .tenantGone: self.init(.aborted, "all of the tenant's processes have died")
    }
  }

  init(_ failure: PortFailure) {
    let text = "\(failure.operation.rawValue): \(errorText(failure.errorNumber))"
    switch (failure.errorNumber, failure.operation) {
    case (ErrorNumber.noSpace, .checkFreeDisk):
      self.init(
        .noSpace,
        "the swap directory's filesystem would have less free space than the floor (serve --keep-free). What is written "
          + "stays in the file and the rest in staging: free some disk space and try again")
    case (ErrorNumber.noSpace, .limitSwapFile), (ErrorNumber.noSpace, .limitAllSwapFiles):
      let (what, option) =
        failure.operation == .limitSwapFile
        ? ("the tenant's swap file has", "--swap-limit") : ("all swap files together have", "--swap-total-limit")
      self.init(
        .noSpace,
        "\(what) reached the limit (serve \(option)). What is written stays in the file and the rest in staging: there is "
          + "room again when pages that were written are removed or written anew, or after a disable")
    case (ErrorNumber.noSpace, _):
      self.init(.noSpace, "\(text). The pages stay in staging: free some disk space and try again")
    case (ErrorNumber.noMemory, _):
      self.init(.noMemory, "\(text). Every page stays readable: try again when memory is free")
    case (_, .pauseMachine), (_, .stopProcess), (_, .inspectProcess): self.init(.freezeFailed, text)
    case (_, .registerRange), (_, .protectRange):
      self.init(
        .unsupported, "\(text). Is every region still mapped, shared, where register said, by this process alone?")
    default: self.init(.inputOutput, "\(text). Every page stays readable: try again when the cause is gone")
    }
  }
}

extension String {
  /// For messages: what a client sent, cut to a length that fits one.
  var shortened: String { String(decoding: utf8.prefix(80), as: UTF8.self) }
}
