import Domain
import Testing

@Suite struct MoveWindowsTests {
  /// All huge-page orders, offsets in the file and region sizes that differ in a way that matters.
  @Test("windows tile a region and begin and end on huge-page bounds of the file offset", arguments: 0...4)
  func windowsTile(order: Int) throws {
    let geometry = try #require(PageGeometry(pageBytes: 4096, hugePageBytes: 4096 << order))
    let huge = 1 << order
    for offset in 0...(2 * huge + 1) {
      for pageCount in 1...(3 * huge + 1) {
        for before in [0, 5] {
          let map = try Self.map(pageCount: pageCount, offset: offset, pagesBefore: before, geometry)
          let region = try #require(map.regions.last)
          let wrong = Self.firstFault(in: region, MoveWindows(region: region, geometry: geometry), huge: huge)
          #expect(wrong == nil, "order \(order), offset \(offset), \(pageCount) pages, \(before) pages before")
        }
      }
    }
  }

  static func firstFault(in region: Region, _ windows: MoveWindows, huge: Int) -> String? {
    var expectedStart = region.pages.lowerBound
    while expectedStart < region.pages.upperBound {
      let window = windows.window(containing: expectedStart)
      guard window.lowerBound == expectedStart else { return "\(window) should begin at \(expectedStart)" }
      guard !window.isEmpty, window.upperBound <= region.pages.upperBound else { return "\(window) leaves its region" }
      guard window.count <= huge else { return "\(window) is longer than a huge page" }
      let (first, end) = (region.filePage(of: window.lowerBound), region.filePage(of: window.upperBound))
      guard first % huge == 0 || window.lowerBound == region.pages.lowerBound else { return "\(window) begins inside" }
      guard end % huge == 0 || window.upperBound == region.pages.upperBound else { return "\(window) ends inside" }
      for page in window where windows.window(containing: page) != window { return "\(page) is in another window" }
      expectedStart = window.upperBound
    }
    return expectedStart == region.pages.upperBound ? nil : "the windows end at \(expectedStart)"
  }

  /// A region whose pages do not begin at the tenant's page 0 needs another one before it.
  static func map(pageCount: Int, offset: Int, pagesBefore: Int, _ geometry: PageGeometry) throws -> RegionMap {
    let large = GuestFile(identity: FileIdentity(device: 1, inode: 1), size: 1 << 30)
    let other = GuestFile(identity: FileIdentity(device: 1, inode: 2), size: 1 << 30)
    var requests = [
      RegionRequest(address: 1 << 40, size: UInt64(pageCount) << 12, file: 0, offset: UInt64(offset) << 12)
    ]
    if pagesBefore > 0 {
      requests.insert(RegionRequest(address: 1 << 30, size: UInt64(pagesBefore) << 12, file: 1, offset: 0), at: 0)
    }
    return try RegionMap(requests, files: [large, other], geometry: geometry)
  }
}
