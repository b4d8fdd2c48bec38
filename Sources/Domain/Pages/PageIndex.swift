/// A page of a tenant: the pages of all its regions laid end to end, in the order of `register`.
package struct PageIndex: Hashable, Strideable, Sendable, CustomStringConvertible {
  package let rawValue: Int

  package init(_ rawValue: Int) { self.rawValue = rawValue }

  package static func < (left: PageIndex, right: PageIndex) -> Bool { left.rawValue < right.rawValue }
  package func distance(to other: PageIndex) -> Int { other.rawValue - rawValue }
  package func advanced(by count: Int) -> PageIndex { PageIndex(rawValue + count) }
  package static func + (page: PageIndex, count: Int) -> PageIndex { PageIndex(page.rawValue + count) }
  package var description: String { "page \(rawValue)" }
}

/// Consecutive pages of a tenant, half open.
package typealias PageRange = Range<PageIndex>

/// A page-sized place in a tenant's swap file; its byte offset is the index times the page size.
package struct SwapSlot: Hashable, Strideable, Sendable, CustomStringConvertible {
  package let rawValue: Int

  package init(_ rawValue: Int) { self.rawValue = rawValue }

  package static func < (left: SwapSlot, right: SwapSlot) -> Bool { left.rawValue < right.rawValue }
  package func distance(to other: SwapSlot) -> Int { other.rawValue - rawValue }
  package func advanced(by count: Int) -> SwapSlot { SwapSlot(rawValue + count) }
  package static func + (slot: SwapSlot, count: Int) -> SwapSlot { SwapSlot(slot.rawValue + count) }
  package var description: String { "slot \(rawValue)" }
}

/// Consecutive slots of a swap file, half open.
package typealias SlotRange = Range<SwapSlot>
