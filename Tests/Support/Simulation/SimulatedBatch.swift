package import Domain

package final class SimulatedBatch: EventBatch {
  var events: [MemoryEvent] = []
  package var count: Int { events.count }
  package func event(at index: Int) -> MemoryEvent { events[index] }
  package func clear() { events.removeAll(keepingCapacity: true) }
}
