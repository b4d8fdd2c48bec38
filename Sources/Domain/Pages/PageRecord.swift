/// Where a page's content is.
package enum PageState: UInt64, CaseIterable, Sendable {
  /// Whatever the guest memfd holds: data, or zeros where it has a hole.
  case guest = 0
  /// The staged copy is complete; the hole in the guest is not yet certain. Seen only inside a move, or after a crash in one.
  case punching = 1
  /// In staging memory; the guest has a hole.
  case staged = 2
  /// Only in the swap file.
  case file = 3
  /// Its slot could not be read back. Readers get SIGBUS; never zeros.
  case unreadable = 4
}

/// A page's entry in the tables: one 64-bit word, so that it changes in one store.
///
/// Layout: bits 0-2 state, bit 4 has a slot, bit 5 the slot's content is valid, bit 6 processes may still get SIGBUS at a page
/// of the guest's, bits 8-47 slot.
/// The zero word is "guest, nothing else", which is what fresh table memory holds.
package struct PageRecord: Equatable, Sendable {
  package var rawValue: UInt64

  package init(rawValue: UInt64) { self.rawValue = rawValue }

  /// - Parameter slotIsValid: the slot holds, durably, the content that the page's checksum describes. While a slot is
  ///   being written it is not valid.
  package init(_ state: PageState, slot: SwapSlot? = nil, slotIsValid: Bool = false) {
    rawValue = state.rawValue
    if let slot {
      precondition(slot.rawValue >> Self.slotBits == 0, "a swap slot beyond what a record can hold")
      rawValue |= Self.slotBit | UInt64(slot.rawValue) << Self.slotShift
      if slotIsValid { rawValue |= Self.validBit }
    }
  }

  /// - Note: a word that no version of this code writes reads as `unreadable`: never as content.
  package var state: PageState {
    guard rawValue & Self.unusedBits == 0, !mayFail || rawValue == Self.mayFailBit else { return .unreadable }
    return PageState(rawValue: rawValue & Self.stateMask) ?? .unreadable
  }
  package var slot: SwapSlot? {
    rawValue & Self.slotBit == 0
      ? nil : SwapSlot(Int(truncatingIfNeeded: rawValue >> Self.slotShift & ((1 << UInt64(Self.slotBits)) - 1)))
  }
  package var slotIsValid: Bool { rawValue & (Self.slotBit | Self.validBit) == Self.slotBit | Self.validBit }
  /// The slot whose content equals the page as the checksum array describes it, possibly older than the page itself.
  package var validSlot: SwapSlot? { slotIsValid ? slot : nil }

  /// The same slot, where it is valid, under another state.
  package func moved(to state: PageState) -> PageRecord { PageRecord(state, slot: validSlot, slotIsValid: true) }

  /// It was unreadable, and is the guest's again, while processes may still be poisoned there.
  package var mayFail: Bool { rawValue & Self.mayFailBit != 0 }

  package static let guest = PageRecord(.guest)
  package static let guestMayFail = PageRecord(rawValue: mayFailBit)

  private static let stateMask: UInt64 = 0b111
  private static let unusedBits: UInt64 = 0xFFFF_0000_0000_0088
  private static let slotBit: UInt64 = 1 << 4
  private static let validBit: UInt64 = 1 << 5
  private static let mayFailBit: UInt64 = 1 << 6
  private static let slotShift: UInt64 = 8
  private static let slotBits = 40
}
