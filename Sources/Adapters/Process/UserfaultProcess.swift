package import Domain
internal import Glibc
internal import Synchronization

/// One process of a tenant, by its userfaultfd and its pidfd.
package final class UserfaultProcess: MonitoredProcess {
  package let userfaultfd: Descriptor
  private let identity: Mutex<ProcessHandle?>
  private let mappings: Mutex<AddressMap>
  /// A fork of one of the tenant's processes has brought it.
  package let isForked: Bool
  /// What I/O it has in flight is awaited before its memory is moved.
  private let isDrained: Bool
  private let map: RegionMap
  private let staging: StagingArea
  package let events: EventBuffer

  /// - Parameters:
  ///   - handle: nil for a child that is not known yet but by its userfaultfd.
  ///   - addresses: where this process maps the regions; nil where the registering one does.
  ///   - isForked: a fork of one of the tenant's processes has brought it.
  ///   - isDrained: what I/O it has in flight is awaited before its memory is moved.
  ///   - events: what an earlier worker has left.
  package init(
    userfaultfd: Descriptor, handle: ProcessHandle?, map: RegionMap, staging: StagingArea, addresses: AddressMap? = nil,
    isForked: Bool = false, isDrained: Bool = false, events: EventBuffer? = nil
  ) throws(SystemError) {
    self.userfaultfd = userfaultfd
    identity = Mutex(handle)
    self.isForked = isForked
    self.isDrained = isDrained
    self.map = map
    mappings = Mutex(addresses ?? AddressMap(map))
    self.staging = staging
    if let events { self.events = events } else { self.events = try EventBuffer() }
  }

  /// Which process it is; nil while that has not been found out.
  package var handle: ProcessHandle? { identity.withLock { $0 } }

  func identify(_ handle: ProcessHandle) { identity.withLock { $0 = handle } }

  /// Forgets addresses at which the process does not map what was thought: a child may lack parts that its parent has
  /// (MADV_DONTFORK), and while nothing is registered no event tells of what is unmapped.
  func forgetUnmapped(_ maps: ProcessMaps, files: [FileIdentity]) {
    for region in map.regions {
      for part in addresses.mapped(region.pages) {
        let offset = UInt64(bytes(region.filePage(of: part.pages.lowerBound)))
        let range = range(part)
        let gaps = maps.gaps(of: files[region.file], offset: offset, at: part.address, bytes: range.len)
        mappings.withLock { for gap in gaps { $0.unmap(gap.lowerBound, gap.upperBound) } }
      }
    }
  }

  /// It maps these pages there, unless it is known to map some of them elsewhere.
  func addIfUnmapped(_ part: (address: UInt64, pages: PageRange)) {
    mappings.withLock { if $0.mapped(part.pages).isEmpty { $0.map(part.pages, at: part.address) } }
  }

  package var kernelAccessSign: String? { handle.flatMap { KernelAccessSigns.find(pid: $0.pid, drained: isDrained) } }

  package var isAlive: Bool { !isMemoryGone.load(ordering: .relaxed) && handle?.isAlive != false }

  /// The same for a child that is not known yet: the kernel tells.
  package func checkMemory() { noteIfGone(ENOMEM) }

  // MARK: Addresses and children

  package var addresses: AddressMap { mappings.withLock { $0 } }

  package func follow(_ event: MemoryEvent) {
    let (start, count): (UInt64, UInt64)
    switch event {
    case .remapped(let from, let to, let bytes):
      mappings.withLock { $0.remap(from: from, to: to, bytes: bytes) }
      (start, count) = (from, bytes)
    case .unmapped(let first, let end):
      mappings.withLock { $0.unmap(first, end) }
      (start, count) = (first, end - first)
    case .missing, .writeProtected, .removed, .forked, .other: return
    }
    // Who waits at an address that is no more waits for ever.
    var range = uffdio_range(start: start, len: count)
    _ = control(UFFD.UFFDIO_WAKE, &range)
  }

  package func takeChild(_ number: Int32) -> UserfaultProcess? {
    let descriptor = Descriptor(owning: number)
    // It has the flags of its parent's, which the client chose.
    _ = fcntl(number, F_SETFD, FD_CLOEXEC)
    _ = fcntl(number, F_SETFL, fcntl(number, F_GETFL) | O_NONBLOCK)
    do throws(SystemError) {
      let child = try UserfaultProcess(
        userfaultfd: descriptor, handle: nil, map: map, staging: staging, addresses: addresses, isForked: true,
        isDrained: isDrained)
      child.registered.store(isRegistered, ordering: .relaxed)
      // Forked just as this one was unregistered, it has kept the way there. (What it is registered for already is no work.)
      for range in child.everything { _ = child.setModes(Self.modes, of: range) }
      return child
    } catch {
      // Closed, it would read zeros: who can't be served waits.
      Self.unserved.withLock { $0.append(descriptor) }
      return nil
    }
  }

  /// Of children for whom there was no memory.
  private static let unserved = Mutex<[Descriptor]>([])

  /// The process executes another program now (or is just dying): its memory is no more, while its pidfd knows of nothing.
  private let isMemoryGone = Atomic(false)

  // MARK: Events

  package var leftEvents: EventBuffer { events }

  package func readEvents() throws(PortFailure) -> EventBuffer {
    try events.fill(from: userfaultfd)
    return events
  }

  // MARK: Pages in

  package func install(_ pages: PageRange, from source: PageSource<LockedBuffer>) -> InstallResult {
    if case .buffer(let buffer, let index) = source { return install(pages, from: buffer.page(index)) }
    var installed = 0
    var stop: InstallResult.Stop?
    do throws(PortFailure) {
      try staging.forEachPart(of: pages, from: source) { (part, bytes) throws(PortFailure) in
        if stop != nil { return }
        let result = install(part, from: bytes.baseAddress!)
        installed += result.installed
        stop = result.stop
      }
    } catch {
      stop = error.errorNumber == ENOMEM ? .outOfMemory : .failed(errorNumber: error.errorNumber)
    }
    return InstallResult(installed: installed, stop: stop)
  }

  private func install(_ pages: PageRange, from start: UnsafeMutableRawPointer) -> InstallResult {
    var done = 0
    var chunk = pages.count
    while done < pages.count {
      let rest = (pages.lowerBound + done)..<pages.upperBound
      guard let place = mappings.withLock({ $0.firstMapped(of: rest) }) else {
        return InstallResult(installed: done, stop: .failed(errorNumber: ENOENT))
      }
      var request = uffdio_copy(
        dst: place.address, src: UInt64(UInt(bitPattern: start + bytes(done))),
        len: UInt64(bytes(min(chunk, place.pages.count))))
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
    var rest = pages
    while let place = addresses.firstMapped(of: rest) {
      var range = range(place)
      _ = control(UFFD.UFFDIO_WAKE, &range)
      rest = place.pages.upperBound..<pages.upperBound
    }
  }

  private func fill(_ page: PageIndex, _ number: UInt) -> InstallResult {
    guard let address = addresses.address(of: page) else {
      return InstallResult(installed: 0, stop: .failed(errorNumber: ENOENT))
    }
    var request = uffdio_fill(range: uffdio_range(start: address, len: UInt64(bytes(1))))
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
  package var isRegistered: Bool { registered.load(ordering: .relaxed) }
  private let registered = Atomic(false)

  package func register() throws(PortFailure) {
    if isRegistered { return }
    let ranges = everything
    for (number, range) in ranges.enumerated() {
      let failure = register(range)
      guard failure != 0 else { continue }
      noteIfGone(failure)
      for earlier in ranges.prefix(number) { _ = unregister(earlier) }
      throw PortFailure(.registerRange, errorNumber: failure)
    }
    registered.store(true, ordering: .relaxed)
  }

  /// Registers for an instant, to see whether it can be done. Nobody else may read the userfaultfd yet.
  package func tryRegistration() throws(PortFailure) {
    defer { settleLateEvents() }
    try register()
    try unregister()
  }

  package func unregister() throws(PortFailure) {
    registered.store(false, ordering: .relaxed)
    for range in everything {
      let errorNumber = unregister(range)
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
    do throws(PortFailure) { return try setProtection(pages, mode: 0) } catch {
      mayBeProtected.store(true, ordering: .relaxed)
      throw error
    }
  }

  /// Lifting protection has failed once, so some of it may be left.
  private let mayBeProtected = Atomic(false)

  private static let modes = UFFD.REGISTER_MODE_MISSING | UFFD.REGISTER_MODE_WP

  private func register(_ range: uffdio_range) -> Int32 {
    let (errorNumber, calls) = setModes(Self.modes, of: range)
    if errorNumber == 0 && calls & UFFD.IOCTL_WRITEPROTECT == 0 {
      _ = unregister(range)
      return EOPNOTSUPP
    }
    return errorNumber
  }

  /// - Returns: the error number, and which calls the range allows then.
  private func setModes(_ modes: UInt64, of range: uffdio_range) -> (errorNumber: Int32, calls: UInt64) {
    var request = uffdio_register(range: range, mode: modes)
    let errorNumber = control(UFFD.UFFDIO_REGISTER, &request)
    return (errorNumber, request.ioctls)
  }

  private func unregister(_ range: uffdio_range) -> Int32 {
    var range = range
    // Where a range is registered for write protection, UNREGISTER takes write access from all that is mapped, page by page
    // (userfaultfd_clear_vma in mm/userfaultfd.c): so long nobody's fault is served, and each page costs its next writer
    // another one. Where nothing is protected any more, registering without it first avoids that. (Else the walk is needed: what
    // stays protected waits for ever once it is registered again.) The kernel only changes what a range is registered for where
    // something is asked for that it is not: minor faults. Who meets one waits until the range is woken below. A kernel that
    // knows none refuses, and has changed nothing.
    let isChanged =
      !mayBeProtected.load(ordering: .relaxed)
      && setModes(UFFD.REGISTER_MODE_MISSING | UFFD.REGISTER_MODE_MINOR, of: range).errorNumber == 0
    let errorNumber = control(UFFD.UFFDIO_UNREGISTER, &range)
    if errorNumber != 0, isChanged { _ = setModes(Self.modes, of: range) }
    // UNREGISTER wakes waiters before it shuts the range for faults: one that came between the two waits on, for ever.
    _ = control(UFFD.UFFDIO_WAKE, &range)
    return errorNumber
  }

  /// Reads what comes late, until nothing stands in the way: a remover waits until its event is read. For the end, when nobody
  /// else reads the userfaultfd any more; the pages are the guest's, so the events say nothing new.
  package func settleLateEvents() {
    for _ in 0..<Self.settleLimit {
      do throws(PortFailure) { try events.fill(from: userfaultfd) } catch { break }
      for number in 0..<events.count {
        switch events.event(at: number) {
        case .forked(let child): close(child)  // which ends its registration
        case let event: follow(event)
        }
      }
      events.clear()
      // On a range that is not registered, ZEROPAGE answers EAGAIN while an event is unread, and ENOENT else.
      var request = uffdio_fill(range: uffdio_range(start: Self.unusedAddress, len: UInt64(bytes(1))))
      if control(UFFD.UFFDIO_ZEROPAGE, &request) != EAGAIN { break }
      usleep(Self.settlePauseMicroseconds)
    }
    for var range in everything { _ = control(UFFD.UFFDIO_WAKE, &range) }  // also whose faults were just read
  }

  /// 100 ms in all.
  private static let settleLimit = 2000
  private static let settlePauseMicroseconds: UInt32 = 50

  private func setProtection(_ pages: PageRange, mode: UInt64) throws(PortFailure) -> ProtectionResult {
    for part in addresses.mapped(pages) {
      var request = uffdio_writeprotect(range: range(part), mode: mode)
      let errorNumber = control(UFFD.UFFDIO_WRITEPROTECT, &request)
      switch errorNumber {
      case 0: continue
      case EAGAIN: return .eventPending
      case ESRCH:
        _ = processGone()
        return .processGone
      case ENOENT where handle == nil: return .eventPending  // a child: which parts it has is not known yet
      default: throw PortFailure(.protectRange, errorNumber: errorNumber)
      }
    }
    return .done
  }

  private func bytes(_ pages: Int) -> Int { map.geometry.bytes(inPages: pages) }

  private func range(_ part: (address: UInt64, pages: PageRange)) -> uffdio_range {
    uffdio_range(start: part.address, len: UInt64(bytes(part.pages.count)))
  }

  /// All that the process maps of the tenant's memory.
  private var everything: [uffdio_range] {
    addresses.mapped(PageIndex(0)..<PageIndex(map.pageCount)).map { range($0) }
  }

  /// - Returns: 0, or the error number.
  private func control<Request>(_ number: UInt, _ request: inout Request) -> Int32 {
    let descriptor = userfaultfd.raw
    return withUnsafeMutablePointer(to: &request) { pointer in
      retryingInterrupts { ioctl(descriptor, number, pointer) }.errorNumber
    }
  }
}
