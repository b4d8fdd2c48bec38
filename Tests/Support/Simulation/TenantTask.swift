package import Domain

/// One thread of the tenant: reads, writes and removes pages, and checks every read against the model.
package final class TenantTask: @unchecked Sendable {  // belongs to whoever holds the baton
  package enum Operation: Equatable, Sendable {
    case read(PageIndex)
    case write(PageIndex)
    case remove(PageRange)
    /// MADV_DONTNEED: its event says the same as that of a removal, but pages that the memfd has stay there.
    case forget(PageRange)
    case pause(nanoseconds: UInt64)
  }

  package let process: SimulatedProcess
  package private(set) var isFinished = false
  /// Parked: it will not touch memory before it is let go.
  package private(set) var isStopped = false
  package private(set) var isRemoving = false
  /// Its removal began before its process was registered.
  private(set) var removesUnannounced = false
  /// Its history wants it to come to its end.
  package var isToEnd = false
  private let kernel: SimulatedKernel
  private let operations: [Operation]
  /// Accesses by the kernel on its behalf: a stop does not interrupt their faults.
  private let faultsInKernel: Bool
  package private(set) var thread: SimulatedThread?

  init(kernel: SimulatedKernel, process: SimulatedProcess, operations: [Operation], faultsInKernel: Bool) {
    self.kernel = kernel
    self.process = process
    self.operations = operations
    self.faultsInKernel = faultsInKernel
  }

  func spawn(_ name: String) {
    thread = kernel.scheduler.spawn(name) {
      self.kernel.scheduler.wait(for: "its process to join") {
        self.process.hasJoined || self.isToEnd || self.process.isDying
      }
      for operation in self.operations {
        self.checkpoint()
        if self.isToEnd || self.process.isDying { break }
        self.perform(operation)
      }
      self.isFinished = true
    }
  }

  private var mustPark: Bool { process.isToStop || kernel.isPausedByCaller }

  /// Where a stop takes effect: on the way back to user mode.
  private func checkpoint() {
    while mustPark, !process.isDying, kernel.defect != .nothingHoldsWriters {
      isStopped = true
      kernel.scheduler.wait(for: "SIGCONT") { !self.mustPark || self.process.isDying }
      isStopped = false
    }
  }

  private func perform(_ operation: Operation) {
    switch operation {
    case .read(let page): access(page, writing: nil)
    case .write(let page): access(page, writing: kernel.newToken())
    case .remove(let range): madvise(range, removes: true)
    case .forget(let range): madvise(range, removes: false)
    case .pause(let nanoseconds):
      kernel.scheduler.wait(for: "a while", atMost: nanoseconds) {
        self.mustPark || self.process.isDying || self.isToEnd
      }
    }
  }

  private func access(_ page: PageIndex, writing token: UInt64?) {
    while true {
      checkpoint()
      kernel.scheduler.yield()
      if process.isDying { return }
      switch process.access(page, writing: token != nil) {
      case .poisoned:
        kernel.log("SIGBUS at \(page)")
        if !kernel.model.mayBeUnreadable(page) {
          kernel.fail("SIGBUS at \(page), and no read of the disk was made to fail")
        }
        return
      case .done:
        finish(page, writing: token)
        return
      case .protected: wait(page, waitsForProtection: true)
      case .hole:
        if process.isRegistered {
          wait(page, waitsForProtection: false)
        } else {
          kernel.guest[page.rawValue] = 0
        }
      }
    }
  }

  private func finish(_ page: PageIndex, writing token: UInt64?) {
    if kernel.processes.allSatisfy({ !$0.isPoisoned(page) }) { kernel.model.isReadable(page) }
    if let token {
      kernel.log("writes \(token) to \(page)")
      kernel.guest[page.rawValue] = token
      kernel.zeroedInPlace.remove(page)
      kernel.model.write(token, to: page)
      return
    }
    let value = kernel.guest[page.rawValue] ?? 0
    kernel.log("reads \(value) from \(page)")
    if let expected = kernel.model.read(value, from: page) {
      kernel.fail("\(page) reads as \(value), and should as \(expected)")
    }
  }

  private func wait(_ page: PageIndex, waitsForProtection: Bool) {
    let waiter = FaultWaiter(page: page, waitsForProtection: waitsForProtection)
    kernel.log("waits at \(page)\(waitsForProtection ? " (write-protected)" : "")")
    process.wait(waiter) { self.process.isDying || !self.faultsInKernel && self.mustPark }
  }

  private func madvise(_ range: PageRange, removes: Bool) {
    kernel.scheduler.yield()
    if process.isDying { return }
    isRemoving = true
    let call = RemoveCall(range: range, begun: kernel.model.removalBegins(range))
    kernel.log("madvise(\(removes ? "REMOVE" : "DONTNEED"), \(range.text)) begins")
    let isAnnounced = process.isRegistered
    removesUnannounced = !isAnnounced
    if isAnnounced { process.announce(call) }
    kernel.log("madvise(\(range.text)) runs on")
    // From here to the removal proper is where rules 7 and 14 are put to the test: often it takes long.
    if kernel.random.chance(perMille: kernel.slowRemovesPerMille) {
      kernel.scheduler.sleep(UInt64(kernel.random.within(1_000...200_000)))
    } else {
      kernel.scheduler.yield()
    }
    if removes { carryOut(call, wasAnnounced: !isAnnounced || call.isRead) } else { forget(call) }
    isRemoving = false
  }

  private func forget(_ call: RemoveCall) {
    for page in call.range {
      process.unmap(page)
      kernel.model.forgettingDone(page, read: call.read)
    }
  }

  private func carryOut(_ call: RemoveCall, wasAnnounced: Bool) {
    let range = call.range
    var position = range.lowerBound
    while position < range.upperBound {
      let end = position + min(kernel.random.within(1...4), position.distance(to: range.upperBound))
      kernel.log("the kernel removes \((position..<end).text)")
      kernel.punchPages(position..<end)
      for page in position..<end {
        kernel.zeroedInPlace.remove(page)
        kernel.model.removalDone(page, begun: call.begun, wasAnnounced: wasAnnounced)
      }
      position = end
      kernel.perhapsYield()
    }
  }
}
