package import Domain

/// In memory that outlives the worker.
package final class SimulatedBatch: EventBatch, @unchecked Sendable {  // belongs to whoever holds the baton
  private let kernel: SimulatedKernel
  var events: [MemoryEvent] = []
  package var count: Int { events.count }

  init(kernel: SimulatedKernel) { self.kernel = kernel }

  /// A killed worker's threads may look for more than a later worker has left.
  package func event(at index: Int) -> MemoryEvent { index < events.count ? events[index] : .other }

  package func clear() {
    kernel.perhapsTheEnd()
    events.removeAll(keepingCapacity: true)
  }
}
