/// What became of a fault.
package enum FaultOutcome: Equatable, Sendable {
  case served
  /// An event or a shortage stands in the way: serve it again later.
  case retryLater
  /// The page is in the swap file: to be handed to somebody who may wait for the disk (`serveFromFile`).
  case needsFile(PageIndex)
  /// The page can't be read back right, as was found just now: its reader fails, and may have to look again for that.
  case unreadable(PageIndex)
  /// The process's memory is no more; nobody waits.
  case processGone
  /// An address in no region: nobody here can serve it.
  case outside(address: UInt64)
  case failed(PortFailure)
}

/// Serves missing-page faults. Look-up and install happen under one shared hold of the gate, so that no remove and no move
/// comes between.
package struct FaultService<Ports: TenantPorts>: Sendable {
  private let memory: TenantMemory<Ports>
  private var ledger: PageLedger<Ports.Table, Ports.Lock> { memory.ledger }

  package init(memory: TenantMemory<Ports>) { self.memory = memory }

  package func serve(address: UInt64, from process: Ports.Process) -> FaultOutcome {
    guard let page = process.addresses.page(atAddress: address) else { return .outside(address: address) }
    return serve(page, from: process)
  }

  package func serve(_ page: PageIndex, from process: Ports.Process) -> FaultOutcome {
    memory.ports.gate.shared { serveUnderGate(page, from: process) }
  }

  /// - Precondition: the gate is held.
  func serveUnderGate(_ page: PageIndex, from process: Ports.Process) -> FaultOutcome {
    guard ledger.isOpen else {
      // Left over from before the end of monitoring, or the range could not be unregistered. Every page is the guest's,
      // so a hole is zeros; and who waits for a page that is there finds it when woken.
      if process.installZero(page).stop != nil { process.wake(page..<(page + 1)) }
      return .served
    }
    let record = ledger.record(of: page)
    switch record.state {
    case .guest: return serveZero(page, from: process)
    case .punching, .staged: return install(page, from: .staging, counting: .staging, process)
    case .file: return .needsFile(page)
    case .unreadable: return poison(page, process)
    }
  }

  /// Serves a page that was in the swap file when it was looked up. Waits for the disk, without the gate.
  package func serveFromFile(_ page: PageIndex, from process: Ports.Process, buffer: Ports.File.Buffer) -> FaultOutcome
  {
    guard let slot = ledger.pinForRead(page) else { return serve(page, from: process) }
    defer { ledger.unpin(slot..<(slot + 1)) }
    let read = memory.readVerified(slot, of: page, into: buffer)
    let outcome = memory.ports.gate.shared { () -> FaultOutcome? in
      if read == .wrong {
        guard ledger.pageUnreadable(page, slot: slot) else { return nil }
        _ = poison(page, process)
        return .unreadable(page)
      }
      if read == .rightInTheEnd { ledger.distrust(slot, of: page) }
      let record = ledger.record(of: page)
      guard record.state == .file, record.slot == slot else { return nil }  // it came back, or was removed, meanwhile
      return install(page, from: .buffer(buffer, index: 0), counting: .file, process)
    }
    return outcome ?? serve(page, from: process)
  }

  private func serveZero(_ page: PageIndex, from process: Ports.Process) -> FaultOutcome {
    switch process.installZero(page).stop {
    case nil:
      ledger.zeroInstalled(page)
      return .served
    case .alreadyPresent:
      ledger.faultWasRedundant()
      process.wake(page..<(page + 1))
      return .served
    case .some(let stop): return outcome(of: stop, page, process)
    }
  }

  private func install(
    _ page: PageIndex, from source: PageSource<Ports.File.Buffer>, counting: FaultSource, _ process: Ports.Process
  ) -> FaultOutcome {
    let range = page..<(page + 1)
    switch process.install(range, from: source).stop {
    case nil:
      ledger.pagesReturned(range, faultFrom: counting)
      return .served
    case .alreadyPresent:
      ledger.pagesReturned(range, faultFrom: .redundant)
      process.wake(range)
      return .served
    case .some(let stop): return outcome(of: stop, page, process)
    }
  }

  private func poison(_ page: PageIndex, _ process: Ports.Process) -> FaultOutcome {
    switch process.poison(page).stop {
    case nil: return .served
    case .alreadyPresent:
      // Either it is poisoned already, or it has content of its own: both times its reader need only look again.
      process.wake(page..<(page + 1))
      return .served
    case .some(let stop): return outcome(of: stop, page, process)
    }
  }

  private func outcome(of stop: InstallResult.Stop, _ page: PageIndex, _ process: Ports.Process) -> FaultOutcome {
    switch stop {
    case .alreadyPresent: return .served
    case .eventPending, .outOfMemory: return .retryLater
    case .processGone: return .processGone
    case .failed(ErrorNumber.noEntry):
      // The range is not registered any more, so its faults are the kernel's business: the reader need only look again.
      process.wake(page..<(page + 1))
      return .served
    case .failed(let number): return .failed(PortFailure(.installPage, errorNumber: number))
    }
  }
}
