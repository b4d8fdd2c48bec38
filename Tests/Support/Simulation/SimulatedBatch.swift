package import Domain

/// In memory that outlives the worker.
package final class SimulatedBatch: EventBatch, @unchecked Sendable {  // belongs to whoever holds the baton
  private let kernel: SimulatedKernel
  var events: [MemoryEvent] = []
  package var count: Int { events.count }

  /// Planted: what was cleared, and is there all the same for who looks for it.
  private var clearedLate: [MemoryEvent] = []

  init(kernel: SimulatedKernel) { self.kernel = kernel }

  /// A killed worker's threads may look for more than a later worker has left.
  package func event(at index: Int) -> MemoryEvent { index < events.count ? events[index] : .other }

  package func clear() {
    kernel.perhapsTheEnd()
    if kernel.defect == .eventsAreClearedLate, !events.isEmpty { clearedLate = events }
    events.removeAll(keepingCapacity: true)
  }

  /// Planted bugs in what a dead worker has left.
  func workerDied() {
    switch kernel.defect {
    case .eventsAreNotShared: events.removeAll()
    case .eventsAreClearedLate: if events.isEmpty { events = clearedLate }
    default: break
    }
    clearedLate.removeAll()
  }
}
