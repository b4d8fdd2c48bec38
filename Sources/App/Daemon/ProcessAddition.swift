internal import Adapters
internal import Domain

/// Checks a process that wants to join a tenant. Nothing is kept on refusal.
struct ProcessAddition: Sendable {
  private let process: UserfaultProcess
  private let name: String
  private let isReplayed: Bool

  init(
    _ request: AddProcessRequest, packet: Packet, connection: Connection, tenant: Tenant, isOwnConnection: Bool
  ) throws(ProtocolError) {
    name = tenant.name
    isReplayed = connection.isReplayed
    let handle = try Self.handle(packet, connection, isOwnConnection)
    guard handle.isAlive, handle.pid != Machine.processIdentifier else {
      throw ProtocolError(.invalidRequest, "process \(handle.pid) is dead, or the daemon itself")
    }
    // (A request that an earlier worker had carried out finds its process there.)
    let isKnown =
      !connection.isReplayed && tenant.processes.values.contains { $0.handle?.pid == handle.pid && !$0.isForked }
    guard !isKnown else {
      throw ProtocolError(.invalidRequest, "process \(handle.pid) is one of the tenant's already")
    }
    if let complaint = Userfaultfd.accept(packet.descriptors[0]) { throw ProtocolError(.invalidDescriptor, complaint) }
    let memory = tenant.runtime.memory
    let addresses: AddressMap
    do throws(RegionError) {
      addresses =
        try request.addresses.map { (given) throws(RegionError) in
          try AddressMap(memory.map, addresses: given.map(\.value))
        } ?? AddressMap(memory.map)
    } catch { throw ProtocolError(error) }
    do throws(SystemError) {
      process = try UserfaultProcess(
        userfaultfd: packet.descriptors[0], handle: handle, map: memory.map, staging: memory.ports.staging,
        addresses: addresses)
    } catch { throw ProtocolError(.noMemory, error.description) }
  }

  /// Waits for the process's own memory lock and the tenant's gate; not for the control thread.
  func join(_ runtime: TenantRuntime) -> Result<UserfaultProcess, ProtocolError> {
    do throws(ProtocolError) {
      if let handle = process.handle {
        let memory = runtime.memory
        try Registration.checkMappings(
          of: handle, memory.map, at: process.addresses.addresses, memory.ports.guest.identities, field: "addresses")
      }
    } catch { return .failure(error) }
    if let child = forkedChild(in: runtime) { return .success(child) }
    do throws(SystemError) { try runtime.holdings.hold(process) } catch {
      return .failure(ProtocolError(.noMemory, error.description))
    }
    do throws(PortFailure) {
      return try runtime.add(process)
        ? .success(process) : .failure(ProtocolError(.noSuchTenant, "tenant: \(name) has ended meanwhile"))
    } catch {
      process.settleLateEvents()
      runtime.holdings.drop(process)
      return .failure(Registration.refusal(of: error))
    }
  }

  /// A child that was forked while its parent was monitored is served already, through the userfaultfd that the fork has made.
  private func forkedChild(in runtime: TenantRuntime) -> UserfaultProcess? {
    // It runs, so its fork was read; who has read it takes it in before the gate is free again.
    runtime.memory.ports.gate.shared {}
    runtime.memory.ports.identifyChildren()
    return runtime.memory.ports.processes.first {
      ($0.isForked || isReplayed) && $0.handle?.pid == process.handle?.pid && $0.addresses == process.addresses
    }
  }

  private static func handle(_ packet: Packet, _ connection: Connection, _ isOwnConnection: Bool) throws(ProtocolError)
    -> ProcessHandle
  {
    switch packet.descriptors.count {
    case 1:
      guard let process = connection.process else {
        throw ProtocolError(
          .unsupported, "the process at the other end of the connection can't be seen: is it in another PID namespace?")
      }
      return process
    case 2:
      guard isOwnConnection else {
        throw ProtocolError(.permissionDenied, "add-process with a pidfd comes on the tenant's own connection only")
      }
      let process: ProcessHandle
      do throws(SystemError) { process = try ProcessHandle(pidfd: packet.descriptors[1]) } catch {
        throw ProtocolError(
          .invalidDescriptor, "descriptor 1 is not the pidfd of a living process that can be seen here")
      }
      // Else anybody could have anybody's process stopped.
      guard connection.user == 0 || process.user == connection.user else {
        throw ProtocolError(
          .permissionDenied,
          "process \(process.pid) belongs to another user than the one at the other end of the connection")
      }
      return process
    case let count:
      throw ProtocolError(
        .invalidRequest,
        "\(count.counted("descriptor")) came with the request; the process's userfaultfd is needed, and on the tenant's own "
          + "connection its pidfd may follow")
    }
  }
}
