import Domain

/// A task in the kernel that waits at a page: for it to be brought in, or for its write protection to end.
final class FaultWaiter {
  let page: PageIndex
  let waitsForProtection: Bool
  var isWoken = false

  init(page: PageIndex, waitsForProtection: Bool) {
    self.page = page
    self.waitsForProtection = waitsForProtection
  }
}

/// A task in madvise(MADV_REMOVE).
final class RemoveCall {
  let range: PageRange
  /// Of the model.
  let begun: Int
  private(set) var isRead = false
  /// When its event was read, as a number of the model's clock.
  private(set) var read: Int

  func isRead(at clock: Int) {
    isRead = true
    read = clock
  }

  init(range: PageRange, begun: Int) {
    read = begun
    self.range = range
    self.begun = begun
  }
}
