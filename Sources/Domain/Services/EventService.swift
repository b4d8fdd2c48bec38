/// A fault that waits for the disk, or for another try.
package struct WaitingFault<Process: MonitoredProcess>: Sendable {
  package let page: PageIndex
  package let process: Process

  package init(page: PageIndex, process: Process) {
    self.page = page
    self.process = process
  }
}

/// Where faults go that need the disk.
package protocol FileFaultQueue<Process> {
  associatedtype Process: MonitoredProcess
  /// - Returns: false when the queue is full.
  func offer(_ fault: WaitingFault<Process>) -> Bool
}

/// What one step of the event service saw; which processes it was about is asked for apart. (Not generic: looking up generic
/// types at run time is a good part of what serving a fault costs besides the kernel's share.)
package struct EventStep: Sendable {
  package var events = 0
  package var removes = 0
  /// Faults that were handed to who waits for the disk.
  package var queued = 0
  /// Faults that wait for another try.
  package var waiting = 0
  package var outsideAddress: UInt64?
  package var failure: PortFailure?
}

/// Drains the userfaultfds of a tenant: removes, forks and the like first, whatever order the kernel hands them out in, then
/// faults.
///
/// One step reads each process once. After warm-up it allocates nothing.
package struct EventService<Ports: TenantPorts, Files: FileFaultQueue> where Files.Process == Ports.Process {
  /// Faults kept for another try; beyond that the waiting thread is woken, and faults again.
  package static var retryCapacity: Int { 1024 }

  private var children: [Ports.Process] = []
  private var processGone: Ports.Process?
  private let memory: TenantMemory<Ports>
  private let faults: FaultService<Ports>
  private let files: Files
  private var retries: [WaitingFault<Ports.Process>] = []
  /// Addresses of the faults just read.
  private var missing: [UInt64] = []
  /// So many fit into any batch.
  private static var expectedFaults: Int { 128 }

  package init(memory: TenantMemory<Ports>, files: Files) {
    self.memory = memory
    self.files = files
    faults = FaultService(memory: memory)
    retries.reserveCapacity(Self.retryCapacity)
    missing.reserveCapacity(Self.expectedFaults)
  }

  /// - Parameter processes: those whose userfaultfds may have something to read.
  package mutating func step(_ processes: [Ports.Process]) -> EventStep {
    var report = EventStep()
    for process in processes { drain(process, &report) }
    if !retries.isEmpty { tryAgain(&report) }
    report.waiting = retries.count + (memory.healPages() ? 0 : 1)
    return report
  }

  /// Forked, and served since; told once.
  package mutating func takeChildren() -> [Ports.Process] {
    if children.isEmpty { return [] }
    defer { children = [] }
    return children
  }

  /// One whose memory turned out to be no more; told once.
  package mutating func takeProcessGone() -> Ports.Process? {
    defer { processGone = nil }
    return processGone
  }

  private mutating func drain(_ process: Ports.Process, _ report: inout EventStep) {
    missing.removeAll(keepingCapacity: true)
    do throws(PortFailure) {
      // Reading and applying the removes is one step: whoever looks a page up sees none that was read and not applied. So is
      // clearing them: once the gate is free, a removed page can be filled and moved again, and a worker that took over would
      // remove it a second time. (Faults need not be kept for that one: it wakes everybody.)
      try memory.ports.gate.held(.changing) { () throws(PortFailure) in
        let batch = try process.readEvents()
        report.events += batch.count
        for number in 0..<batch.count { apply(batch.event(at: number), of: process, &report) }
        batch.clear()
        // Faults are served in the same hold: another one would come behind the next window of a move.
        serveMissing(of: process, &report)
      }
    } catch {
      report.failure = error
    }
  }

  private mutating func serveMissing(of process: Ports.Process, _ report: inout EventStep) {
    for address in missing {
      guard let page = process.addresses.page(atAddress: address) else {
        report.outsideAddress = address
        continue
      }
      handle(faults.serveUnderGate(page, from: process), of: page, process, &report)
    }
  }

  /// What is no fault is applied, and faults are noted. With the gate held for changing, so no window of a move is under way and nothing is looked up.
  private mutating func apply(_ event: MemoryEvent, of process: Ports.Process, _ report: inout EventStep) {
    switch event {
    case .missing(let address): missing.append(address)
    case .writeProtected, .other: break
    case .removed(let start, let end):
      report.removes += 1
      process.addresses.forEachPages(inAddresses: start, end) { memory.ledger.discard($0) }
    case .remapped, .unmapped: process.follow(event)
    case .forked(let number):
      // One that was forked just as monitoring ended stays registered until the next end: its faults are served with zeros.
      guard let child = process.takeChild(number) else { return }
      memory.ports.append(child)
      memory.ledger.processJoined()
      children.append(child)
    }
  }

  private mutating func tryAgain(_ report: inout EventStep) {
    for _ in 0..<retries.count {
      let fault = retries.remove(at: 0)  // removeFirst() would allocate, generic as this is
      handle(faults.serve(fault.page, from: fault.process), of: fault.page, fault.process, &report)
    }
  }

  private mutating func handle(
    _ outcome: FaultOutcome, of page: PageIndex, _ process: Ports.Process, _ report: inout EventStep
  ) {
    switch outcome {
    case .served, .unreadable: break
    case .retryLater: keep(WaitingFault(page: page, process: process))
    case .needsFile:
      let fault = WaitingFault(page: page, process: process)
      if files.offer(fault) { report.queued += 1 } else { keep(fault) }
    case .processGone: processGone = process
    case .outside(let address): report.outsideAddress = address
    case .failed(let failure):
      report.failure = failure
      keep(WaitingFault(page: page, process: process))
    }
  }

  private mutating func keep(_ fault: WaitingFault<Ports.Process>) {
    if retries.count < Self.retryCapacity {
      retries.append(fault)
    } else {
      fault.process.wake(fault.page..<(fault.page + 1))
    }
  }
}
