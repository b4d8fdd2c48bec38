/// Slots that are read at once, and which of them are wanted.
///
/// What lies between two wanted ones costs the disk less than another read does, if it is not much. It may be anything, also
/// while it is read: freed, written anew, punched. So nobody looks at what was read there.
package struct FileRun: Equatable, Sendable {
  /// How many slots that nobody wants are read along between two that somebody does.
  package static let longestGap = 16
  /// The wanted ones, in order; there is at least one. They are pinned, and so are the gaps, as far as they were taken.
  package let pieces: [SlotRange]
  /// From the first to the last.
  package let slots: SlotRange

  package init(_ pieces: [SlotRange]) {
    guard let first = pieces.first, let last = pieces.last else { preconditionFailure("a read of nothing") }
    self.pieces = pieces
    slots = first.lowerBound..<last.upperBound
  }

  /// The first wanted slots at or behind a place of the run.
  package func nextPiece(from index: Int) -> SlotRange? {
    let start = slots.lowerBound + index
    return pieces.first { $0.upperBound > start }.map { max($0.lowerBound, start)..<$0.upperBound }
  }

  /// Where in the run, and so in the buffer, a slot lies.
  package func index(of slot: SwapSlot) -> Int { slots.lowerBound.distance(to: slot) }
}
