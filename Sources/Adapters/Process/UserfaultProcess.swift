package import Domain
internal import Glibc
internal import Synchronization

/// One process of a tenant, by its userfaultfd and its pidfd.
package final class UserfaultProcess: MonitoredProcess {
  package let userfaultfd: Descriptor
  package let handle: ProcessHandle
  package let addresses: AddressMap
  private let map: RegionMap
  private let staging: StagingArea
  private let events: EventBuffer

  /// - Parameter addresses: where this process maps the regions; nil where the registering one does.
  package init(
    userfaultfd: Descriptor, handle: ProcessHandle, map: RegionMap, staging: StagingArea, addresses: AddressMap? = nil
  ) throws(SystemError) {
    self.userfaultfd = userfaultfd
    self.handle = handle
    self.map = map
    self.addresses = addresses ?? AddressMap(map)
    self.staging = staging
    events = try EventBuffer()
  }

  package var kernelAccessSign: String? { KernelAccessSigns.find(pid: handle.pid) }

  package var isAlive: Bool { !isMemoryGone.load(ordering: .relaxed) && handle.isAlive }

  /// The process executes another program now (or is just dying): its memory is no more, while its pidfd knows of nothing.
  private let isMemoryGone = Atomic(false)

  // MARK: Events

  package func readEvents() throws(PortFailure) -> EventBuffer {
    try events.fill(from: userfaultfd)
    return events
  }

  // MARK: Pages in

  package func install(_ pages: PageRange, from source: PageSource<LockedBuffer>) -> InstallResult {
    let start = staging.address(of: pages.lowerBound, in: source)
    var done = 0
    var chunk = pages.count
    while done < pages.count {
      var request = uffdio_copy(
        dst: addresses.address(of: pages.lowerBound + done), src: UInt64(UInt(bitPattern: start + bytes(done))),
        len: UInt64(bytes(min(chunk, pages.count - done))))
      let errorNumber = control(UFFD.UFFDIO_COPY, &request)
      // A copy that was cut short says EAGAIN and how far it came; one that could not begin leaves an error there.
      let copied = request.copy > 0 ? Int(request.copy) >> map.geometry.pageShift : 0
      done += errorNumber == 0 ? Int(request.len) >> map.geometry.pageShift : copied
      if errorNumber == 0 || copied > 0 { continue }
      if errorNumber == ENOENT && chunk > 1 {
        chunk = 1  // the range crosses a bound between two mappings of the client
        continue
      }
      return InstallResult(installed: done, stop: stop(for: errorNumber))
    }
    return InstallResult(installed: done)
  }

  package func installZero(_ page: PageIndex) -> InstallResult { fill(page, UFFD.UFFDIO_ZEROPAGE) }

  package func poison(_ page: PageIndex) -> InstallResult { fill(page, UFFD.UFFDIO_POISON) }

  /// A COPY heals only the process that it fills the page for; elsewhere it answers EEXIST, and the marker stays. CONTINUE
  /// maps the page that is there over the marker (and needs no registration for minor faults); at a hole it answers EFAULT.
  package func heal(_ page: PageIndex) -> InstallResult {
    let mapped = fill(page, UFFD.UFFDIO_CONTINUE)
    guard mapped.stop == .failed(errorNumber: EFAULT) else { return mapped }
    let zeroed = fill(page, UFFD.UFFDIO_ZEROPAGE)
    // It has come between the two: try again later.
    return zeroed.stop == .alreadyPresent ? InstallResult(installed: 0, stop: .eventPending) : zeroed
  }

  package func wake(_ pages: PageRange) {
    var range = range(of: pages)
    _ = control(UFFD.UFFDIO_WAKE, &range)
  }

  private func fill(_ page: PageIndex, _ number: UInt) -> InstallResult {
    var request = uffdio_fill(range: range(of: page..<(page + 1)))
    let errorNumber = control(number, &request)
    return errorNumber == 0
      ? InstallResult(installed: 1) : InstallResult(installed: 0, stop: stop(for: errorNumber))
  }

  private func stop(for errorNumber: Int32) -> InstallResult.Stop {
    switch errorNumber {
    case EEXIST: .alreadyPresent
    case EAGAIN: .eventPending
    case ENOMEM: .outOfMemory
    case ESRCH: processGone()
    default: .failed(errorNumber: errorNumber)
    }
  }

  /// ESRCH of these calls means that the memory is gone (mmget_not_zero in fs/userfaultfd.c), and it never comes back.
  private func processGone() -> InstallResult.Stop {
    isMemoryGone.store(true, ordering: .relaxed)
    return .processGone
  }

  /// REGISTER and UNREGISTER answer ENOMEM for memory that is gone, and for lack of memory. A COPY to where nothing is
  /// registered tells, and does nothing.
  private func noteIfGone(_ errorNumber: Int32) {
    guard errorNumber == ENOMEM else { return }
    var request = uffdio_copy(dst: Self.unusedAddress, src: Self.unusedAddress, len: UInt64(bytes(1)))
    if control(UFFD.UFFDIO_COPY, &request) == ESRCH { _ = processGone() }
  }

  /// Above vm.mmap_min_addr, and below where programs are mapped.
  private static let unusedAddress: UInt64 = 0x1_0000

  // MARK: Ranges

  /// Whether all regions are registered. Rolling a registration back must never unregister what held before.
  private let isRegistered = Atomic(false)

  package func register() throws(PortFailure) {
    if isRegistered.load(ordering: .relaxed) { return }
    for (number, region) in map.regions.enumerated() {
      let failure = register(region)
      guard failure != 0 else { continue }
      noteIfGone(failure)
      for earlier in map.regions.prefix(number) { _ = unregister(earlier) }
      throw PortFailure(.registerRange, errorNumber: failure)
    }
    isRegistered.store(true, ordering: .relaxed)
  }

  /// Registers for an instant, to see whether it can be done. Nobody else may read the userfaultfd yet.
  package func tryRegistration() throws(PortFailure) {
    defer { settleLateEvents() }
    try register()
    try unregister()
  }

  package func unregister() throws(PortFailure) {
    isRegistered.store(false, ordering: .relaxed)
    for region in map.regions {
      let errorNumber = unregister(region)
      // The whole process is gone, or the client has unmapped the region: there is nothing left to unregister.
      if errorNumber != 0 && errorNumber != ENOMEM && errorNumber != EINVAL {
        throw PortFailure(.unregisterRange, errorNumber: errorNumber)
      }
    }
  }

  package func protect(_ pages: PageRange) throws(PortFailure) -> ProtectionResult {
    try setProtection(pages, mode: UFFD.WRITEPROTECT_MODE_WP)
  }

  package func unprotect(_ pages: PageRange) throws(PortFailure) -> ProtectionResult {
    try setProtection(pages, mode: 0)
  }

  private func register(_ region: Region) -> Int32 {
    var request = uffdio_register(
      range: range(of: region.pages), mode: UFFD.REGISTER_MODE_MISSING | UFFD.REGISTER_MODE_WP)
    let errorNumber = control(UFFD.UFFDIO_REGISTER, &request)
    if errorNumber == 0 && request.ioctls & UFFD.IOCTL_WRITEPROTECT == 0 {
      _ = unregister(region)
      return EOPNOTSUPP
    }
    return errorNumber
  }

  private func unregister(_ region: Region) -> Int32 {
    var range = range(of: region.pages)
    let errorNumber = control(UFFD.UFFDIO_UNREGISTER, &range)
    // UNREGISTER wakes waiters before it shuts the range for faults: one that came between the two waits on, for ever.
    wake(region.pages)
    return errorNumber
  }

  /// Reads what comes late, until nothing stands in the way: a remover waits until its event is read. For the end, when nobody
  /// else reads the userfaultfd any more; the pages are the guest's, so the events say nothing new.
  package func settleLateEvents() {
    var messages = [UInt8](repeating: 0, count: 4096)
    for _ in 0..<Self.settleLimit {
      let raw = userfaultfd.raw
      messages.withUnsafeMutableBytes { bytes in
        var vector = iovec(iov_base: bytes.baseAddress, iov_len: bytes.count)
        _ = retryingInterrupts { preadv2(raw, &vector, 1, -1, Linux.RWF_NOWAIT) }
      }
      // On a range that is not registered, ZEROPAGE answers EAGAIN while an event is unread, and ENOENT else.
      var request = uffdio_fill(range: range(of: PageIndex(0)..<PageIndex(1)))
      if control(UFFD.UFFDIO_ZEROPAGE, &request) != EAGAIN { break }
      usleep(Self.settlePauseMicroseconds)
    }
    for region in map.regions { wake(region.pages) }  // also whose faults were just read
  }

  /// 100 ms in all.
  private static let settleLimit = 2000
  private static let settlePauseMicroseconds: UInt32 = 50

  private func setProtection(_ pages: PageRange, mode: UInt64) throws(PortFailure) -> ProtectionResult {
    var request = uffdio_writeprotect(range: range(of: pages), mode: mode)
    let errorNumber = control(UFFD.UFFDIO_WRITEPROTECT, &request)
    switch errorNumber {
    case 0: return .done
    case EAGAIN: return .eventPending
    case ESRCH:
      _ = processGone()
      return .processGone
    default: throw PortFailure(.protectRange, errorNumber: errorNumber)
    }
  }

  private func bytes(_ pages: Int) -> Int { map.geometry.bytes(inPages: pages) }

  private func range(of pages: PageRange) -> uffdio_range {
    uffdio_range(start: addresses.address(of: pages.lowerBound), len: UInt64(bytes(pages.count)))
  }

  /// - Returns: 0, or the error number.
  private func control<Request>(_ number: UInt, _ request: inout Request) -> Int32 {
    let descriptor = userfaultfd.raw
    return withUnsafeMutablePointer(to: &request) { pointer in
      retryingInterrupts { ioctl(descriptor, number, pointer) }.errorNumber
    }
  }
}
