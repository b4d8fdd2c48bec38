/// Installs pages in the guest, and records that they are the guest's again.
struct PageReturn<Ports: TenantPorts>: Sendable {
  struct Outcome: Sendable {
    /// Returned.
    var pages = 0
    var stop: InstallResult.Stop?
    var failure: PortFailure?
    /// Nothing was left out.
    var isWhole: Bool { stop == nil && failure == nil && !isCutShort }
    var isCutShort = false
  }

  let memory: TenantMemory<Ports>
  /// What a window has brought back may lie scattered over so many, with what was there already.
  private static var releasedHugePages: Int { 4 }

  /// Brings back window after window, until something stands in the way, or faults come: these want more of the processor.
  func bringBack(_ nextWindow: () -> PageRange?, by process: Ports.Process) -> Outcome {
    var outcome = Outcome()
    let faults = memory.ledger.counts.faults.total
    while let window = nextWindow() {
      if outcome.pages > 0, memory.ledger.counts.faults.total != faults {
        outcome.isCutShort = true
        break
      }
      let next = bringBack(window, by: process)
      outcome.pages += next.pages
      (outcome.stop, outcome.failure) = (next.stop, next.failure)
      if !outcome.isWhole { break }
    }
    return outcome
  }

  /// Brings back what is staged in a window of one region, under one hold of the gate, and gives the copies' memory back.
  func bringBack(_ window: PageRange, by process: Ports.Process) -> Outcome {
    let outcome = memory.ports.gate.shared { () -> Outcome in
      var outcome = Outcome()
      var position = window.lowerBound
      while outcome.isWhole, let next = nextRead(from: position, before: window.upperBound) {
        do throws(PortFailure) {
          position = try memory.ports.staging.withCopies(of: next) { buffer, read in
            install(read, of: buffer, by: process, &outcome)
            return read.upperBound
          }
        } catch {
          if error.errorNumber == ErrorNumber.noMemory { outcome.stop = .outOfMemory } else { outcome.failure = error }
        }
      }
      return outcome
    }
    guard outcome.failure == nil else { return outcome }
    memory.releaseByTurns(limit: Self.releasedHugePages * memory.map.geometry.hugePagePages)
    return outcome
  }

  /// The next staged pages, and over gaps that cost less than another read.
  private func nextRead(from start: PageIndex, before end: PageIndex) -> PageRange? {
    // So many as stay in the processor's cache.
    var staged = memory.ledger.nextStagedMask(from: start, before: end)
    guard var read = staged?.popRun() else { return nil }
    while let next = staged?.popRun(), read.upperBound.distance(to: next.lowerBound) <= Self.longestGap {
      read = read.lowerBound..<next.upperBound
    }
    return read
  }

  private static var longestGap: Int { 4 }

  /// What is staged of what was read, and recorded at once: until the gate is let go, pages can only come back besides, and
  /// of those the guest's own content wins.
  private func install(
    _ read: PageRange, of buffer: Ports.File.Buffer, by process: Ports.Process, _ outcome: inout Outcome
  ) {
    guard var staged = memory.ledger.nextStagedMask(from: read.lowerBound, before: read.upperBound) else { return }
    var returned = PageMask(start: staged.start)
    defer { memory.ledger.pagesReturned(returned) }
    while let run = staged.popRun() {
      var rest = run
      while !rest.isEmpty {
        let source = PageSource.buffer(buffer, index: read.lowerBound.distance(to: rest.lowerBound))
        let next = install(rest, from: source, by: process) { returned.insert($0) }
        outcome.pages += next.pages
        outcome.stop = next.stop
        if next.stop != nil || next.pages == 0 { return }
        rest = (rest.lowerBound + next.pages)..<rest.upperBound
      }
    }
  }

  /// To be called under the shared gate.
  func install(_ run: PageRange, from source: PageSource<Ports.File.Buffer>, by process: Ports.Process) -> Outcome {
    install(run, from: source, by: process) { memory.ledger.pagesReturned($0) }
  }

  /// - Parameter record: what is the guest's again, in this same hold of the gate.
  private func install(
    _ run: PageRange, from source: PageSource<Ports.File.Buffer>, by process: Ports.Process,
    record: (PageRange) -> Void
  ) -> Outcome {
    let result = process.install(run, from: source)
    let isUnmapped = result.stop == .failed(errorNumber: ErrorNumber.noEntry)
    if isUnmapped, result.installed == 0 { return putBack(run, from: source) }
    var returned = result.installed
    if result.stop == .alreadyPresent {
      // The guest's own content wins. Who waits for it elsewhere is woken by the fault that it has sent.
      let page = run.lowerBound + result.installed
      process.wake(page..<(page + 1))
      returned += 1
    }
    if returned > 0 { record(run.lowerBound..<(run.lowerBound + returned)) }
    return Outcome(pages: returned, stop: isUnmapped ? nil : result.stop)
  }

  /// The process does not map the first page any more. Another may; pages that none does go back into the memfd itself.
  private func putBack(_ run: PageRange, from source: PageSource<Ports.File.Buffer>) -> Outcome {
    let processes = memory.ports.processes.filter(\.isAlive)
    for other in processes {
      let result = other.install(run, from: source)
      let isUnmapped = result.stop == .failed(errorNumber: ErrorNumber.noEntry)
      if isUnmapped, result.installed == 0 { continue }
      if result.installed > 0 { memory.ledger.pagesReturned(run.lowerBound..<(run.lowerBound + result.installed)) }
      if isUnmapped { return Outcome(pages: result.installed) }
      // The next step meets it again.
      return Outcome(pages: result.installed, stop: result.stop == .alreadyPresent ? .eventPending : result.stop)
    }
    // Only what nobody can touch: a page that comes back by a fault meanwhile may have been written by then. (Where all say
    // that they map it, and none does, the client has unmapped it without a word.)
    let unmapped = run.prefix { page in !processes.contains { $0.addresses.address(of: page) != nil } }
    let rest = unmapped.isEmpty ? run : run.lowerBound..<(run.lowerBound + unmapped.count)
    do throws(PortFailure) { try memory.ports.guest.restore(rest, from: source) } catch {
      return Outcome(stop: .failed(errorNumber: error.errorNumber))
    }
    memory.ledger.pagesReturned(rest)
    return Outcome(pages: rest.count)
  }
}
