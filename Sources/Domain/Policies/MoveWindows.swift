/// Cuts a region into the windows that are moved at a time: they begin and end on huge-page bounds of the *file offset*
/// (or at the region's own bounds), so that no huge page is ever punched in part.
package struct MoveWindows: Sendable {
  private let region: Region
  private let hugePagePages: Int

  package init(region: Region, geometry: PageGeometry) {
    self.region = region
    hugePagePages = geometry.hugePagePages
  }

  /// The window that holds a page of the region.
  package func window(containing page: PageIndex) -> PageRange {
    let filePage = region.filePage(of: page)
    let start = filePage & ~(hugePagePages - 1)
    let first = max(0, start - region.firstFilePage)
    let last = min(region.pages.count, start + hugePagePages - region.firstFilePage)
    return (region.pages.lowerBound + first)..<(region.pages.lowerBound + last)
  }
}
