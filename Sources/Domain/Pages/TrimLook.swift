/// What trim has to do with some staged pages.
package struct TrimLook: Equatable, Sendable {
  /// Their copies are known to be zeros.
  package var zero: [PageIndex] = []
  /// To be read, in runs: they may be zeros, or what their slots hold.
  package private(set) var unread: [PageRange] = []
  /// All of them, also those that can't be dropped.
  package var count = 0

  package init() {}

  /// Behind all others.
  package mutating func addUnread(_ page: PageIndex) {
    if let last = unread.last, last.upperBound == page {
      unread[unread.count - 1] = last.lowerBound..<(page + 1)
    } else {
      unread.append(page..<(page + 1))
    }
  }
}
