package import Domain

/// Reads slots in the background: somewhen between `start` and the completion, and they complete in any order.
package final class SimulatedReadAhead: ReadAhead, @unchecked Sendable {  // belongs to whoever holds the baton
  private struct Started {
    let run: FileRun
    let buffer: SimulatedBuffer
    /// How the read ended, where it took place at once.
    var outcome: PortFailure??
  }

  private let kernel: SimulatedKernel
  private let file: SimulatedSwapFile
  private var free: [SimulatedBuffer]
  private var started: [Started] = []
  package let spareBuffer: SimulatedBuffer
  package let bufferCount: Int

  init(kernel: SimulatedKernel, file: SimulatedSwapFile, buffers: Int, capacityPages: Int) {
    self.kernel = kernel
    self.file = file
    bufferCount = buffers
    free = (0..<buffers).map { _ in SimulatedBuffer(kernel: kernel, capacityPages: capacityPages) }
    spareBuffer = SimulatedBuffer(kernel: kernel, capacityPages: 1)
  }

  package var isIdle: Bool { started.isEmpty && free.count == bufferCount }

  package func takeBuffer() -> SimulatedBuffer? {
    kernel.enter("readAhead.takeBuffer")
    // Others may have used up the budget for locked memory.
    if kernel.scheduler.isUnwinding || kernel.injector.isOn && kernel.random.chance(perMille: 50) { return nil }
    return free.popLast()
  }

  package func start(_ run: FileRun, into buffer: SimulatedBuffer) {
    kernel.enter("readAhead.start(\(run.pieces.map(\.text).joined(separator: ", ")))")
    if run.slots.count > buffer.capacityPages { kernel.fail("\(run.slots.text) does not fit into its buffer") }
    for piece in run.pieces { file.begin(piece) }
    let isEarly = kernel.random.chance(perMille: 500)
    started.append(Started(run: run, buffer: buffer, outcome: isEarly ? .some(read(run, into: buffer)) : nil))
  }

  package func nextCompletion() -> ReadCompletion<SimulatedBuffer>? {
    kernel.enterBlocking("readAhead.nextCompletion")
    guard !started.isEmpty else { return nil }
    let read = started.remove(at: kernel.random.below(started.count))
    let failure = read.outcome ?? self.read(read.run, into: read.buffer)
    kernel.perhapsYield()
    for piece in read.run.pieces { file.end(piece) }
    return ReadCompletion(run: read.run, buffer: read.buffer, failure: failure)
  }

  package func rest() {
    if !started.isEmpty { kernel.fail("reading ahead comes to rest while reads are under way") }
  }

  package func giveBack(_ buffer: SimulatedBuffer) {
    kernel.enter("readAhead.giveBack")
    if free.contains(where: { $0 === buffer }) { kernel.fail("a buffer is given back twice") }
    buffer.spoil()
    free.append(buffer)
  }

  private func read(_ run: FileRun, into buffer: SimulatedBuffer) -> PortFailure? {
    do throws(PortFailure) { try file.fill(buffer, from: run) } catch { return error }
    return nil
  }
}
