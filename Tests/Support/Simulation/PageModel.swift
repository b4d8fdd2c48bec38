package import Domain

/// What every page must read as: the last write to it, or zeros once it was removed.
///
/// A removal takes effect at some moment between the call of madvise and the moment at which the kernel carries it out;
/// in between, a page may read as either. Once it has been seen as zeros, or written anew, that holds. A write that
/// lands in between may be removed too.
package struct PageModel: Sendable {
  private struct Page {
    var value: UInt64
    /// It may read as zeros as well; the next read decides.
    var mayBeZero = false
    var removesUnderWay = 0
    /// When it was written last, as a number of `clock`.
    var written = 0
    /// The disk was made to lose it, so that SIGBUS is an answer.
    var mayBeUnreadable = false
  }

  private var pages: [Page]
  package private(set) var clock = 0

  package init(_ contents: [UInt64?]) { pages = contents.map { Page(value: $0 ?? 0) } }

  package mutating func write(_ value: UInt64, to page: PageIndex) {
    clock += 1
    pages[page.rawValue].value = value
    pages[page.rawValue].mayBeZero = false
    pages[page.rawValue].written = clock
  }

  /// - Returns: when it began, for `removalDone`.
  package mutating func removalBegins(_ range: PageRange) -> Int {
    clock += 1
    for page in range { pages[page.rawValue].removesUnderWay += 1 }
    return clock
  }

  /// The kernel has carried it out for this page.
  ///
  /// - Parameter wasAnnounced: false where the remover was killed, and nobody read its event.
  package mutating func removalDone(_ page: PageIndex, begun: Int, wasAnnounced: Bool) {
    pages[page.rawValue].removesUnderWay -= 1
    if wasAnnounced, pages[page.rawValue].written < begun {
      pages[page.rawValue].value = 0
      pages[page.rawValue].mayBeZero = false
    } else {
      pages[page.rawValue].mayBeZero = true
    }
  }

  /// MADV_DONTNEED has ended: what was written before its event was read may be gone.
  package mutating func forgettingDone(_ page: PageIndex, read: Int) {
    pages[page.rawValue].removesUnderWay -= 1
    if pages[page.rawValue].written <= read { pages[page.rawValue].mayBeZero = true }
  }

  package mutating func mayBecomeUnreadable(_ page: PageIndex) { pages[page.rawValue].mayBeUnreadable = true }

  /// It was brought back. Should it be lost after this, that takes another failure of the disk.
  package mutating func isReadable(_ page: PageIndex) { pages[page.rawValue].mayBeUnreadable = false }

  package func mayBeUnreadable(_ page: PageIndex) -> Bool { pages[page.rawValue].mayBeUnreadable }

  /// - Returns: what it should have read as, where it should not have read as this.
  package mutating func read(_ value: UInt64, from page: PageIndex) -> String? {
    let state = pages[page.rawValue]
    if value == state.value {
      pages[page.rawValue].mayBeZero = false
      return nil
    }
    let mayBeZero = state.mayBeZero || state.removesUnderWay > 0
    guard value == 0, mayBeZero else { return "\(state.value)" + (mayBeZero ? " or 0" : "") }
    pages[page.rawValue].value = 0
    pages[page.rawValue].mayBeZero = false
    return nil
  }
}
