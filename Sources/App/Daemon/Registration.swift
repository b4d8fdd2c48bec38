internal import Adapters
internal import Domain

/// Checks what a client wants to register, and builds the tenant's memory from it. Nothing is kept on refusal.
struct Registration: Sendable {
  static let longestName = 64

  let name: String
  let freeze: FreezeMode
  let regions: [RegisterRequest.RegionField]
  var requests: [RegionRequest] { regions.map(\.request) }
  let files: [GuestFile]
  let process: ProcessHandle
  let memory: TenantMemory<LinuxPorts>

  init(
    _ request: RegisterRequest, _ descriptors: [Descriptor], peer: ProcessHandle?, shared: LinuxPorts.Shared,
    holdings: TenantHoldings, attachment: Attachment?
  ) throws(ProtocolError) {
    guard Self.isName(request.tenant) else {
      throw ProtocolError(.invalidRequest, "tenant: \"\(request.tenant.shortened)\"; \(Self.rightNames)")
    }
    name = request.tenant
    freeze = try Self.freezeMode(request.freeze)
    guard descriptors.count >= 2 else {
      throw ProtocolError(
        .invalidRequest,
        "\(descriptors.count.counted("descriptor")) came with the request; a userfaultfd and at least one memfd are "
          + "needed")
    }
    guard let peer, peer.isAlive else {
      throw ProtocolError(
        .unsupported, "the process at the other end of the connection can't be seen: is it in another PID namespace?")
    }
    guard peer.pid != Machine.processIdentifier else {
      throw ProtocolError(.invalidRequest, "the daemon can't be a tenant of its own")
    }
    let (userfaultfd, memfds) = (descriptors[0], Array(descriptors.dropFirst()))
    if let complaint = Userfaultfd.accept(userfaultfd) { throw ProtocolError(.invalidDescriptor, complaint) }
    regions = request.regions
    let map: RegionMap
    (files, map) = try Self.look(at: memfds, regions, shared.geometry)
    for index in memfds.indices where !regions.contains(where: { $0.memfd == index }) {
      throw ProtocolError(.invalidRequest, "memfd \(index) is used by no region; send those only that are")
    }
    try Self.checkMappings(of: peer, map, at: map.regions.map(\.address), files.map(\.identity), field: "regions")
    process = peer
    do throws(SystemError) {
      let ports = try LinuxPorts(
        map: map, memfds: memfds, files: files, shared: shared, holdings: holdings,
        attachment: attachment)
      memory = TenantMemory(map: map, ports: ports, slotLimit: shared.limits.slots ?? .max)
      let first = try UserfaultProcess(
        userfaultfd: userfaultfd, handle: peer, map: map, staging: ports.staging,
        isDrained: attachment?.monitor != nil)
      try holdings.hold(ports, memfds: memfds)
      try holdings.hold(first)
      ports.append(first)
    } catch {
      holdings.dropAll()
      throw error.errorNumber == ErrorNumber.noMemory
        ? ProtocolError(.noMemory, error.description) : ProtocolError(.inputOutput, error.description)
    }
    // What the kernel would refuse at `enable` is better known now.
    do throws(PortFailure) { try memory.ports.processes[0].tryRegistration() } catch {
      holdings.dropAll()
      throw Self.refusal(of: error)
    }
  }

  static func isName(_ name: String) -> Bool {
    (1...longestName).contains(name.utf8.count) && name.utf8.allSatisfy(isOfName)
  }

  /// Whether it may stand in a tenant's name.
  static func isOfName(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"):
      true
    default: false
    }
  }

  static let rightNames = "1 to \(longestName) of A-Z a-z 0-9 . _ - are right"

  private static func freezeMode(_ name: String?) throws(ProtocolError) -> FreezeMode {
    guard let name else { return .signal }
    if let mode = FreezeMode(rawValue: name) { return mode }
    throw ProtocolError(
      .invalidRequest, "freeze: \"\(name.shortened)\"; \"signal\", \"live\" or \"caller\" is right")
  }

  /// Whether the memfds are such as can be served, and the regions fit to them.
  static func look(at memfds: [Descriptor], _ regions: [RegisterRequest.RegionField], _ geometry: PageGeometry)
    throws(ProtocolError) -> (files: [GuestFile], map: RegionMap)
  {
    var files: [GuestFile] = []
    for (number, file) in memfds.enumerated() {
      do throws(GuestFileInspection.Refusal) {
        files.append(try GuestFileInspection.inspect(file, number: number, geometry: geometry))
      } catch { throw ProtocolError(.invalidDescriptor, error.message) }
    }
    do throws(RegionError) {
      return (files, try RegionMap(regions.map(\.request), files: files, geometry: geometry))
    } catch { throw ProtocolError(error) }
  }

  /// A wrong address would make the tenant lose its memory; /proc/PID/maps tells, wherever we may read it.
  ///
  /// - Parameter field: of the request, which has the addresses.
  static func checkMappings(
    of process: ProcessHandle, _ map: RegionMap, at addresses: [UInt64], _ files: [FileIdentity], field: String
  ) throws(ProtocolError) {
    guard let maps = ProcessMaps(pid: process.pid) else { return }
    for (number, (region, address)) in zip(map.regions, addresses).enumerated() {
      let offset = UInt64(map.geometry.bytes(inPages: region.firstFilePage))
      let bytes = UInt64(map.geometry.bytes(inPages: region.pages.count))
      if !maps.map(files[region.file], offset: offset, at: address, bytes: bytes) {
        throw ProtocolError(
          .invalidRegion,
          "\(field)[\(number)]: process \(process.pid) does not map memfd \(region.file) from offset \(offset) on at "
            + "address \(address) for \(bytes) bytes, MAP_SHARED")
      }
    }
  }

  /// What the kernel says where a range can't be registered.
  static func refusal(of failure: PortFailure) -> ProtocolError {
    ProtocolError(
      .invalidRegion,
      "the regions can't be registered with this userfaultfd: \(errorText(failure.errorNumber)). It must be the process's "
        + "own, no other userfaultfd may watch the memory, and the kernel must know write protection of shared memory "
        + "(Linux 5.19)")
  }
}

extension ProtocolError {
  init(_ error: RegionError) {
    switch error {
    case .invalid(let message): self.init(.invalidRegion, message)
    case .overlap(let message): self.init(.regionOverlap, message)
    }
  }
}
