package import Domain

/// Faults on their way to the threads that may wait for the disk.
package final class SimulatedFaultQueue: FileFaultQueue {
  private let kernel: SimulatedKernel
  private let limit: Int
  private var faults: [WaitingFault<SimulatedProcess>] = []

  init(kernel: SimulatedKernel, limit: Int) {
    self.kernel = kernel
    self.limit = limit
  }

  package var isEmpty: Bool { faults.isEmpty }

  package func offer(_ fault: WaitingFault<SimulatedProcess>) -> Bool {
    kernel.enter("queue.offer(\(fault.page))")
    guard faults.count < limit else { return kernel.defect == .fullQueuesForget }
    faults.append(fault)
    return true
  }

  func take() -> WaitingFault<SimulatedProcess>? { faults.isEmpty ? nil : faults.removeFirst() }
}
