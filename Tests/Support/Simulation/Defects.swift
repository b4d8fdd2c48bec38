/// Bugs planted in the simulated outside, each of which breaks a rule that pages live by (RULES.md). The simulation is
/// believed because it finds the loss that each of them makes.
package struct Defects: OptionSet, Sendable {
  package let rawValue: Int
  package init(rawValue: Int) { self.rawValue = rawValue }

  /// Nothing keeps writers off the memory while it moves.
  package static let nothingHoldsWriters = Defects(rawValue: 1 << 0)
  package static let gateDoesNotExclude = Defects(rawValue: 1 << 1)
  /// Freeing staged copies frees the page behind them too.
  package static let releaseTakesOneMore = Defects(rawValue: 1 << 2)
  /// The swap file reports success, and holds something else.
  package static let writesAreGarbage = Defects(rawValue: 1 << 3)
  /// SEEK_DATA sees no data that a punch left behind.
  package static let pinnedPagesLookLikeHoles = Defects(rawValue: 1 << 4)
  /// Removes are read, and never told of.
  package static let removesAreSwallowed = Defects(rawValue: 1 << 5)
  /// Every task seems to be outside of madvise, always.
  package static let lookSeesNobody = Defects(rawValue: 1 << 6)
  /// Every two pages have the same checksum.
  package static let checksumsCollide = Defects(rawValue: 1 << 7)
  /// COPY overwrites what the guest has.
  package static let installOverwrites = Defects(rawValue: 1 << 8)
  /// ZEROPAGE reports success where a page is present: a redundant fault then settles a removal that is under way.
  package static let zeroPageHidesPresence = Defects(rawValue: 1 << 9)
}
