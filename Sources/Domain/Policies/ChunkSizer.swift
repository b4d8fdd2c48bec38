/// How many pages one step handles while it holds the gate: much while nobody waits, little while faults come.
///
/// Who reads a fault holds the gate alone, so it waits for the step that runs. The largest chunk (2 MiB of pages) costs
/// it most of a millisecond, the smallest some tens of microseconds.
package struct ChunkSizer: Sendable {
  package let largest: Int
  package let smallest: Int
  private var current: Int
  private var lastFaultCount = 0

  package init(largest: Int, smallest: Int = 32) {
    self.largest = max(1, largest)
    self.smallest = min(max(1, smallest), self.largest)
    current = self.largest
  }

  /// - Parameter faultCount: faults served so far, ever growing.
  package mutating func next(faultCount: Int) -> Int {
    current = faultCount == lastFaultCount ? min(largest, current * 2) : smallest
    lastFaultCount = faultCount
    return current
  }
}
