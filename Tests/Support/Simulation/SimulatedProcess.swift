package import Domain

/// A process that maps the tenant's memory, and its userfaultfd.
package final class SimulatedProcess: MonitoredProcess, @unchecked Sendable {  // belongs to whoever holds the baton
  /// ENOENT: the range is not registered.
  static var noEntry: Int32 { 2 }
  private static var tryAgain: Int32 { 11 }

  package let index: Int
  /// Each process has addresses of its own.
  package let addresses: AddressMap
  /// The daemon knows of it; before that its tasks touch nothing.
  package internal(set) var hasJoined = true
  /// Its userfaultfd outlives the worker, which handed it on before it registered anything.
  var isHeld = false
  /// It is one of the tenant's for the present worker, which may not have answered it yet.
  var isKnown: Bool { hasJoined || isLeft }
  /// An earlier worker has left it half taken in.
  var isLeft = false
  /// It joins while the tenant runs.
  var isLate = false
  /// Nobody has announced it.
  private(set) var isForked = false
  package internal(set) var isRegistered = false
  /// Forked just as monitoring ended: it stays registered until the next end.
  var outlivesMonitoring = false
  /// Killed; its memory goes when its last task has left the kernel.
  package internal(set) var isDying = false
  package internal(set) var isToStop = false
  let kernel: SimulatedKernel
  var protected: [Bool]
  var poisoned: [Bool]
  /// Pages that this process has in its page tables.
  var mapped: [Bool]
  var pendingFaults: [FaultWaiter] = []
  var readFaults: [FaultWaiter] = []
  var pendingRemoves: [RemoveCall] = []
  /// Children whose forks wait for their events to be read.
  var pendingForks: [SimulatedProcess] = []
  /// As the kernel's `mmap_changing`: removers that have not run on since they sent their event.
  var changes = 0
  private let batch: SimulatedBatch
  private let largestBatch: Int
  private var toldLate: [RemoveCall] = []
  private var staysRegistered = false

  init(kernel: SimulatedKernel, index: Int) {
    self.kernel = kernel
    self.index = index
    addresses = Self.addresses(kernel.map, index)
    protected = [Bool](repeating: false, count: kernel.map.pageCount)
    poisoned = protected
    mapped = protected
    largestBatch = kernel.random.within(1...6)
    batch = SimulatedBatch(kernel: kernel)
  }

  private static func addresses(_ map: RegionMap, _ index: Int) -> AddressMap {
    let registered = AddressMap(map)
    guard index > 0 else { return registered }
    do throws(RegionError) {
      // In another order, too.
      let top = registered.addresses.max() ?? 0
      return try AddressMap(map, addresses: registered.addresses.map { (top - $0) * 4 + UInt64(index) << 40 })
    } catch { return registered }
  }

  package var kernelAccessSign: String? { nil }
  package func follow(_ event: MemoryEvent) {}
  package func takeChild(_ number: Int32) -> SimulatedProcess? {
    kernel.processes[Int(number)].isForked = true
    return kernel.processes[Int(number)]
  }

  package var isAlive: Bool { !isGone }
  package var hasEvents: Bool {
    !pendingFaults.isEmpty || !pendingRemoves.isEmpty || !toldLate.isEmpty || !pendingForks.isEmpty
  }
  var isGone: Bool { isDying && kernel.tasks.allSatisfy { $0.process !== self || $0.isFinished } }

  // MARK: Registration

  package func register() throws(PortFailure) {
    kernel.enter("process \(index).register")
    if kernel.defect == .lateIsNotRegistered, isLate { return }
    do throws(PortFailure) { try kernel.mayFail(.registerRange, ErrorNumber.noMemory) } catch {
      if kernel.defect == .failedRegistrationStays { (isRegistered, staysRegistered) = (true, true) }
      throw error
    }
    staysRegistered = false
    if isGone { throw PortFailure(.registerRange, errorNumber: ErrorNumber.noMemory) }
    isRegistered = true
  }

  package func unregister() throws(PortFailure) {
    kernel.enterBlocking("process \(index).unregister")
    try kernel.mayFail(.unregisterRange, ErrorNumber.noMemory)
    if isGone { throw PortFailure(.unregisterRange, errorNumber: ErrorNumber.noMemory) }
    if staysRegistered { return }
    (isRegistered, outlivesMonitoring) = (false, false)
    for page in protected.indices { protected[page] = false }
    wakeWaiters(PageIndex(0)..<PageIndex(kernel.map.pageCount), protectionOnly: false)
  }

  package func protect(_ pages: PageRange) throws(PortFailure) -> ProtectionResult {
    kernel.enter("process \(index).protect(\(pages.text))")
    kernel.checkOneRegion(pages, "protect")
    let failing = kernel.injector.failure(among: [ErrorNumber.noMemory, Self.tryAgain])
    if let obstacle = try obstacleToProtection() { return obstacle }
    if failing == Self.tryAgain { return .eventPending }
    switch kernel.defect {
    case .nothingHoldsWriters, .protectionIsSkipped: return .done
    case .protectionIsSkippedWhereStopped where isToStop || kernel.isPausedByCaller: return .done
    case .onlyFirstIsProtected where index > 0: return .done
    case .lateIsNotProtected where isLate: return .done
    case .pagesAreReadBeforeProtection: kernel.lookEarly(at: pages)
    default: break
    }
    for page in pages.prefix(failing == nil ? pages.count : kernel.random.below(pages.count)) {
      protected[page.rawValue] = true
    }
    if let failing { throw PortFailure(.protectRange, errorNumber: failing) }
    return .done
  }

  package func unprotect(_ pages: PageRange) throws(PortFailure) -> ProtectionResult {
    kernel.enter("process \(index).unprotect(\(pages.text))")
    if let obstacle = try obstacleToProtection() { return obstacle }
    if kernel.injector.failure(among: [Self.tryAgain]) != nil { return .eventPending }
    if kernel.defect == .protectionStays, kernel.isTakingOver { return .done }
    endProtection(of: pages)
    kernel.memory.forgetEarlyLook(at: pages)
    return .done
  }

  func endProtection(of pages: PageRange) {
    for page in pages { protected[page.rawValue] = false }
    wakeWaiters(pages, protectionOnly: true)
  }

  private func obstacleToProtection() throws(PortFailure) -> ProtectionResult? {
    if isGone { return .processGone }
    if changes > 0 { return .eventPending }
    if !isRegistered { throw PortFailure(.protectRange, errorNumber: Self.noEntry) }
    return nil
  }

  // MARK: Events

  package var leftEvents: SimulatedBatch { batch }

  package func readEvents() throws(PortFailure) -> SimulatedBatch {
    kernel.enter("process \(index).readEvents")
    if batch.count > 0 { kernel.fail("events are read, and the last are not applied") }
    if kernel.defect == .readingWaits {
      kernel.scheduler.wait(for: "an event to read") { self.hasEvents || self.isDying }
    }
    try kernel.mayFail(.readEvents, ErrorNumber.inputOutput)
    while batch.count < largestBatch, !pendingFaults.isEmpty {
      let waiter = pendingFaults.removeFirst()
      readFaults.append(waiter)
      let address =
        (addresses.address(of: waiter.page) ?? 0) + UInt64(kernel.random.below(kernel.map.geometry.pageBytes))
      batch.events.append(waiter.waitsForProtection ? .writeProtected(address: address) : .missing(address: address))
    }
    let told = toldLate
    toldLate.removeAll()
    for call in told { tell(of: call) }
    while batch.count < largestBatch, !pendingRemoves.isEmpty {
      let call = pendingRemoves.removeFirst()
      call.isRead(at: kernel.model.clock)
      switch kernel.defect {
      case .removesAreSwallowed: break
      case .removesAreToldLate: toldLate.append(call)
      default: tell(of: call)
      }
    }
    while !pendingForks.isEmpty { batch.events.append(.forked(child: Int32(pendingForks.removeFirst().index))) }
    if batch.count < largestBatch, kernel.random.chance(perMille: 20) { batch.events.append(.other) }
    kernel.log("read: \(batch.events.map { kernel.text($0, addresses) })")
    kernel.perhapsTheEnd()
    return batch
  }

  /// Planted bugs in what a dead worker has left.
  func workerDied() { batch.workerDied() }

  private func tell(of call: RemoveCall) {
    let start = addresses.address(of: call.range.lowerBound) ?? 0
    batch.events.append(
      .removed(start: start, end: start + UInt64(kernel.map.geometry.bytes(inPages: call.range.count))))
  }

  // MARK: Bringing pages in

  package func install(_ pages: PageRange, from source: PageSource<SimulatedBuffer>) -> InstallResult {
    kernel.enter("process \(index).install(\(pages.text))")
    kernel.checkOneRegion(pages, "install")
    kernel.perhapsTakeLong()
    for (number, page) in pages.enumerated() {
      if let stop = obstacle(at: number) {
        if stop == .outOfMemory, kernel.defect == .noMemoryBecomesZeros, kernel.guest[page.rawValue] == nil {
          fill(page, 0)
          continue
        }
        return cutShort(pages, after: number, by: stop)
      }
      if kernel.guest[page.rawValue] != nil, kernel.defect != .installOverwrites {
        return InstallResult(installed: number, stop: .alreadyPresent)
      }
      kernel.returns[page.rawValue] += 1
      switch source {
      case .staging: fill(page, kernel.readStaging(page))
      case .buffer(let buffer, let index): fill(page, buffer[index + number])
      }
      kernel.perhapsYield()
    }
    return InstallResult(installed: pages.count)
  }

  private func cutShort(_ pages: PageRange, after number: Int, by stop: InstallResult.Stop) -> InstallResult {
    switch kernel.defect {
    case .pendingEventsPassForDone where stop == .eventPending:
      wakeWaiters(pages, protectionOnly: false)
      return InstallResult(installed: pages.count)
    case .copiesAreFreedBeforeInstall:
      for page in (pages.lowerBound + number)..<pages.upperBound { kernel.staging[page.rawValue] = nil }
    default: break
    }
    return InstallResult(installed: number, stop: stop)
  }

  package func installZero(_ page: PageIndex) -> InstallResult {
    kernel.enter("process \(index).installZero(\(page))")
    if let stop = obstacle(at: 0) { return InstallResult(installed: 0, stop: stop) }
    if kernel.guest[page.rawValue] == nil {
      fill(page, 0)
    } else if kernel.defect == .redundantFaultsSettle {
      wakeWaiters(page..<(page + 1), protectionOnly: false)
    } else {
      return InstallResult(installed: 0, stop: .alreadyPresent)
    }
    return InstallResult(installed: 1)
  }

  package func wake(_ pages: PageRange) {
    kernel.enter("process \(index).wake(\(pages.text))")
    switch kernel.defect {
    case .presentPagesWakeNobody: break
    case .nobodyIsWoken where kernel.isTakingOver: break
    case .onlyFirstIsWoken: kernel.processes[0].wakeWaiters(pages, protectionOnly: false)
    default: wakeWaiters(pages, protectionOnly: false)
    }
  }

  package func poison(_ page: PageIndex) -> InstallResult {
    kernel.enter("process \(index).poison(\(page))")
    if let stop = obstacle(at: 0) { return InstallResult(installed: 0, stop: stop) }
    if mapped[page.rawValue] || poisoned[page.rawValue] { return InstallResult(installed: 0, stop: .alreadyPresent) }
    if kernel.defect == .lateIsNotPoisoned, isLate, kernel.guest[page.rawValue] == nil {
      fill(page, 0)
      return InstallResult(installed: 1)
    }
    poisoned[page.rawValue] = true
    wakeWaiters(page..<(page + 1), protectionOnly: false)
    return InstallResult(installed: 1)
  }

  package func heal(_ page: PageIndex) -> InstallResult {
    kernel.enter("process \(index).heal(\(page))")
    // UFFDIO_CONTINUE and ZEROPAGE know no error that passes but these: what else they say, they say again.
    if let stop = obstacle(at: 0, failing: [Self.tryAgain, ErrorNumber.noMemory]) {
      return InstallResult(installed: 0, stop: stop)
    }
    if kernel.guest[page.rawValue] == nil { fill(page, 0) }
    poisoned[page.rawValue] = false
    mapped[page.rawValue] = true
    return InstallResult(installed: 1)
  }

  /// What cuts an install short at its page of this number; some of it at random.
  ///
  /// - Parameter failing: what may be made to fail, besides.
  private func obstacle(
    at number: Int, failing: [Int32] = [tryAgain, ErrorNumber.noMemory, ErrorNumber.inputOutput]
  ) -> InstallResult.Stop? {
    if kernel.scheduler.isUnwinding { return .failed(errorNumber: ErrorNumber.inputOutput) }
    if isGone || kernel.defect == .goneIsBelieved && kernel.random.chance(perMille: 20) { return .processGone }
    if changes > 0 { return .eventPending }
    if !isRegistered { return .failed(errorNumber: Self.noEntry) }
    if kernel.injector.isOn, kernel.random.chance(perMille: 20) { return number > 0 ? .eventPending : .outOfMemory }
    switch kernel.injector.failure(among: failing) {
    case nil: return nil
    case Self.tryAgain: return .eventPending
    case ErrorNumber.noMemory: return .outOfMemory
    case .some(let number): return .failed(errorNumber: number)
    }
  }

  private func fill(_ page: PageIndex, _ token: UInt64) {
    kernel.log("\(page) = \(token)")
    kernel.guest[page.rawValue] = token
    kernel.zeroedInPlace.remove(page)
    mapped[page.rawValue] = true
    // The new entry overwrites what marked the hole.
    protected[page.rawValue] = false
    poisoned[page.rawValue] = false
    wakeWaiters(page..<(page + 1), protectionOnly: false)
  }

  private func wakeWaiters(_ pages: PageRange, protectionOnly: Bool) {
    for waiter in pendingFaults + readFaults
    where pages.contains(waiter.page) && (waiter.waitsForProtection || !protectionOnly) { waiter.isWoken = true }
    pendingFaults.removeAll { $0.isWoken }
    readFaults.removeAll { $0.isWoken }
  }
}
