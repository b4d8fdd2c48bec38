internal import Domain

/// A limit that all tenants share: of their staging memory, or of their swap files. First come, first served; no share is
/// kept for anybody.
package final class SharedPageLimit: @unchecked Sendable {  // guarded by `lock`
  private let lock = PlainMutex()
  private let limit: Int
  private var used = 0

  package init(pages: Int) { limit = pages }

  func take(_ pages: Int) -> Bool {
    lock.lock()
    defer { lock.unlock() }
    guard pages == 0 || pages <= limit - used else { return false }
    used += pages
    return true
  }

  /// What is there already, limit or not.
  func count(_ pages: Int) {
    lock.lock()
    defer { lock.unlock() }
    used += pages
  }

  func giveBack(_ pages: Int) {
    lock.lock()
    defer { lock.unlock() }
    used -= pages
  }
}

/// Which pages of a file take memory or space, counted against a limit. They count until they are punched, whether anybody
/// needs them or not.
final class PageAccount: @unchecked Sendable {  // guarded by `lock`
  private let lock = PlainMutex()
  private let limit: SharedPageLimit?
  private var pages: PageBitmap
  private var reserved = 0

  /// - Parameter limit: nil where there is none; then nothing is counted.
  init(capacity: Int, limit: SharedPageLimit?) {
    self.limit = limit
    pages = PageBitmap(capacity: limit == nil ? 0 : capacity)
  }

  deinit { limit?.giveBack(pages.count + reserved) }

  /// Counts what an earlier worker has left in a file. Where that can't be told, it does not count.
  func adopt(_ file: Descriptor, _ geometry: PageGeometry) {
    guard let limit else { return }
    lock.lock()
    defer { lock.unlock() }
    let bytes = geometry.bytes(inPages: pages.capacity)
    var position = 0
    do throws(PortFailure) {
      while position < bytes, let data = try nextData(file, in: position..<bytes, operation: .findStagedCopies) {
        let end = min(data.upperBound + geometry.pageBytes - 1, bytes)
        pages.insert(data.lowerBound >> geometry.pageShift..<end >> geometry.pageShift)
        position = data.upperBound
      }
    } catch {}
    limit.count(pages.count)
  }

  /// Takes so many pages beforehand; what was reserved before goes back.
  func reserve(_ count: Int) -> Bool {
    guard let limit else { return true }
    lock.lock()
    defer { lock.unlock() }
    limit.giveBack(reserved)
    reserved = limit.take(count) ? count : 0
    return reserved == count
  }

  /// Counts those that do not count yet.
  ///
  /// - Returns: false, and nothing is changed, where the limit does not allow it.
  func add(_ range: Range<Int>) -> Bool {
    guard let limit else { return true }
    lock.lock()
    defer { lock.unlock() }
    var new = 0
    for page in range where !pages.contains(page) { new += 1 }
    let fromReserve = min(new, reserved)
    guard limit.take(new - fromReserve) else { return false }
    pages.insert(range)
    reserved -= fromReserve
    return true
  }

  func remove(_ range: Range<Int>) {
    guard let limit else { return }
    lock.lock()
    defer { lock.unlock() }
    let before = pages.count
    pages.remove(range)
    limit.giveBack(before - pages.count)
  }

  func removeAll() {
    guard let limit else { return }
    lock.lock()
    defer { lock.unlock() }
    limit.giveBack(pages.count + reserved)
    pages.removeAll()
    reserved = 0
  }
}
