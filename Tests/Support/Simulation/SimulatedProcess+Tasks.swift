import Domain

/// What the process's tasks meet.
extension SimulatedProcess {
  /// What an access meets at a page.
  enum Access {
    case done
    case poisoned
    case hole
    case protected
  }

  func access(_ page: PageIndex, writing: Bool) -> Access {
    if poisoned[page.rawValue] { return .poisoned }
    guard kernel.guest[page.rawValue] != nil else { return .hole }
    if writing, isRegistered, protected[page.rawValue] { return .protected }
    mapped[page.rawValue] = true
    return .done
  }

  func isPoisoned(_ page: PageIndex) -> Bool { poisoned[page.rawValue] }

  var isPoisonedAnywhere: Bool { poisoned.contains(true) }

  func unmap(_ page: PageIndex) { mapped[page.rawValue] = false }

  func wait(_ waiter: FaultWaiter, until isInterrupted: @escaping () -> Bool) {
    pendingFaults.append(waiter)
    kernel.scheduler.wait(
      for: "\(waiter.page) of process \(index)\(waiter.waitsForProtection ? ", which is write-protected" : "")"
    ) { waiter.isWoken || isInterrupted() }
    pendingFaults.removeAll { $0 === waiter }
    readFaults.removeAll { $0 === waiter }
  }

  /// The child is registered, protected and poisoned as this process is, and runs once the event has been read.
  ///
  /// - Returns: false when that did not come to pass.
  func fork(_ child: SimulatedProcess, until isOver: @escaping () -> Bool) -> Bool {
    kernel.log("process \(index) forks process \(child.index)")
    (child.isRegistered, child.protected, child.poisoned) = (true, protected, poisoned)
    changes += 1
    pendingForks.append(child)
    kernel.scheduler.wait(for: "its fork to be read") { child.hasJoined || self.isDying || isOver() }
    pendingForks.removeAll { $0 === child }
    changes -= 1
    if !child.hasJoined { child.isRegistered = false }
    return child.hasJoined
  }

  /// Sends the event of a removal, and waits until it is read. Until this thread has run on, ioctls answer EAGAIN.
  func announce(_ call: RemoveCall) {
    changes += 1
    if kernel.defect == .removesCountAsHoles { kernel.memory.announced.formUnion(call.range) }
    pendingRemoves.append(call)
    kernel.scheduler.wait(for: "its remove of \(call.range.text) to be read") { call.isRead || self.isDying }
    pendingRemoves.removeAll { $0 === call }
    changes -= 1
  }
}

extension SimulatedKernel {
  func text(_ event: MemoryEvent, _ map: AddressMap) -> String {
    switch event {
    case .missing(let address): "missing \(map.page(atAddress: address)?.rawValue ?? -1)"
    case .writeProtected(let address): "protected \(map.page(atAddress: address)?.rawValue ?? -1)"
    case .removed(let start, let end):
      "removed \(map.page(atAddress: start)?.rawValue ?? -1)...\(map.page(atAddress: end - 1)?.rawValue ?? -1)"
    case .forked, .remapped, .unmapped, .other: "other"
    }
  }
}
