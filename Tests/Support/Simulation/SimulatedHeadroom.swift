package import Domain

/// Now and then there is no memory: for an instant, or for a while.
package final class SimulatedHeadroom: MemoryHeadroom, @unchecked Sendable {  // belongs to whoever holds the baton
  private let kernel: SimulatedKernel
  private let shortagesPerMille: Int
  private var endNanoseconds: UInt64 = 0

  init(kernel: SimulatedKernel, shortagesPerMille: Int) {
    self.kernel = kernel
    self.shortagesPerMille = shortagesPerMille
  }

  package func shortage(of pages: Int, for use: MemoryUse) -> MemoryShortage? {
    kernel.enterBlocking("headroom.shortage(of: \(pages), \(use))")
    // No more than one step moves.
    if pages <= 0 || pages > 32 * kernel.map.geometry.hugePagePages { kernel.fail("\(pages) pages are asked for") }
    let now = kernel.scheduler.now
    if kernel.random.chance(perMille: shortagesPerMille) {
      endNanoseconds = now + UInt64(kernel.random.pick([0, 1_000_000, 150_000_000]))
      kernel.log("there is no memory")
      return .machine
    }
    return now < endNanoseconds ? .machine : nil
  }
}
