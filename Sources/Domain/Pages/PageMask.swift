/// Some of 64 consecutive pages.
package struct PageMask: Equatable, Sendable {
  package static let capacity = 64
  /// The page of bit 0.
  package let start: PageIndex
  package private(set) var bits: UInt64

  package init(start: PageIndex, bits: UInt64 = 0) { (self.start, self.bits) = (start, bits) }

  /// - Precondition: they lie within the 64.
  package mutating func insert(_ run: PageRange) {
    if !run.isEmpty { bits |= mask(of: run) }
  }

  /// Takes the first run of consecutive pages out.
  package mutating func popRun() -> PageRange? {
    guard bits != 0 else { return nil }
    let first = bits.trailingZeroBitCount
    let run = (start + first)..<(start + first + (~(bits >> UInt64(first))).trailingZeroBitCount)
    bits &= ~mask(of: run)
    return run
  }

  private func mask(of run: PageRange) -> UInt64 {
    let offset = start.distance(to: run.lowerBound)
    precondition(offset >= 0 && offset + run.count <= Self.capacity, "pages outside of the mask")
    return (~0 >> UInt64(Self.capacity - run.count)) << UInt64(offset)
  }
}
