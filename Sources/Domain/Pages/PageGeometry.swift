/// The machine's page sizes as shifts: index math is by shift, never by division.
package struct PageGeometry: Equatable, Sendable {
  /// log2 of the base page size in bytes.
  package let pageShift: Int
  /// log2 of the number of base pages in a huge page.
  package let hugePageOrder: Int

  package var pageBytes: Int { 1 << pageShift }
  package var hugePagePages: Int { 1 << hugePageOrder }

  /// - Returns: nil unless both are powers of two, and a huge page holds at least one page.
  package init?(pageBytes: Int, hugePageBytes: Int) {
    guard pageBytes > 0, pageBytes & (pageBytes - 1) == 0,
      hugePageBytes >= pageBytes, hugePageBytes & (hugePageBytes - 1) == 0
    else { return nil }
    pageShift = pageBytes.trailingZeroBitCount
    hugePageOrder = hugePageBytes.trailingZeroBitCount - pageShift
  }

  package func isAligned(_ bytes: UInt64) -> Bool { bytes & UInt64(pageBytes - 1) == 0 }
  package func pages(inBytes bytes: UInt64) -> Int { Int(bytes >> UInt64(pageShift)) }
  package func bytes(inPages pages: Int) -> Int { pages << pageShift }
}
