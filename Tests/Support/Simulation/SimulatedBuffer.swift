package import Domain

package final class SimulatedBuffer: ReadBuffer, @unchecked Sendable {  // belongs to whoever holds the baton
  package let capacityPages: Int
  private let kernel: SimulatedKernel
  private var tokens: [UInt64]

  package init(kernel: SimulatedKernel, capacityPages: Int) {
    self.kernel = kernel
    self.capacityPages = capacityPages
    tokens = [UInt64](repeating: 0, count: capacityPages)
    spoil()
  }

  package func checksum(at index: Int) -> PageChecksum {
    defer {
      if kernel.defect == .checkedIsNotInstalled, kernel.random.chance(perMille: 100) {
        tokens[index] = kernel.garbage()
      }
    }
    return kernel.checksum(of: tokens[index])
  }

  subscript(index: Int) -> UInt64 {
    get { tokens[index] }
    set { tokens[index] = newValue }
  }

  /// What it held is not to be used any more.
  func spoil() {
    for index in tokens.indices { tokens[index] = kernel.garbage() }
  }
}
