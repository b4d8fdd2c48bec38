package import Domain

/// What each page of a tortured tenant's memory is for, and what it holds besides counters.
package struct TortureLayout: Sendable {
  /// The first one registers, the others join by add-process.
  package static let processes = 2
  package static let writersPerProcess = 2
  package static var writers: Int { processes * writersPerProcess }
  /// Behind the constant. The writers' counters lie side by side, so that every page has several owners.
  static let firstCounter = 8

  package let geometry: PageGeometry
  package let pageCount: Int
  package let seed: UInt64

  package init(geometry: PageGeometry, pageCount: Int, seed: UInt64) {
    self.geometry = geometry
    self.pageCount = pageCount
    self.seed = seed
  }

  /// An eighth of the pages, at the end: there each writer has pages of its own, which it removes now and then.
  private var areaPages: Int { pageCount / 8 / Self.writers }
  private var commonPages: Int { pageCount - areaPages * Self.writers }

  func area(of writer: Int) -> Range<Int> {
    commonPages + areaPages * writer..<commonPages + areaPages * (writer + 1)
  }

  /// Pages that all writers share. They and the cold ones lie mixed.
  var shared: [UInt32] { (0..<commonPages).filter { !isCold($0) }.map { UInt32($0) } }
  /// Pages that nobody touches before the end.
  var cold: [Int] { (0..<commonPages).filter(isCold) }

  private func isCold(_ page: Int) -> Bool { SplitMix.mix(seed ^ UInt64(page)) & 1 == 0 }

  /// The word that a shared page begins and ends with, and that fills a cold one; zero in a quarter of them, for trim.
  func constant(of page: Int) -> UInt64 {
    let word = SplitMix.mix(seed &+ 1 ^ UInt64(page))
    return word & 3 == 0 ? 0 : word
  }
}
