import Domain

/// A tenant's regions, drawn at random: small, at odd places of their files, some side by side.
struct Layout {
  let geometry: PageGeometry
  var requests: [RegionRequest] = []
  var files: [GuestFile] = []
  var regionPages: [PageRange] = []
  var pageCount = 0

  init(_ random: inout SimulationRandom, largestRegions: [Int]) {
    let pageBytes = 4096
    guard let geometry = PageGeometry(pageBytes: pageBytes, hugePageBytes: pageBytes * random.pick([4, 8])) else {
      preconditionFailure("these are page sizes")
    }
    self.geometry = geometry
    let fileCount = random.within(1...2)
    var lengths = [Int](repeating: 0, count: fileCount)
    var address: UInt64 = 1 << 30
    let largest = random.pick(largestRegions)
    for number in 0..<random.within(1...(largest == 1 ? 2 : 3)) {
      let file = number < fileCount ? number : random.below(fileCount)
      let pages = random.within(1...largest)
      let offset = lengths[file] + (random.chance(perMille: 500) ? random.below(9) : 0)
      lengths[file] = offset + pages
      requests.append(
        RegionRequest(
          address: address, size: UInt64(geometry.bytes(inPages: pages)), file: file,
          offset: UInt64(geometry.bytes(inPages: offset))))
      address += UInt64(geometry.bytes(inPages: pages + random.pick([0, 3])))
      regionPages.append(PageIndex(pageCount)..<PageIndex(pageCount + pages))
      pageCount += pages
    }
    // A memfd that no region uses would be refused.
    let used = lengths.filter { $0 > 0 }.count
    files = lengths.prefix(used).enumerated().map { number, pages in
      GuestFile(
        identity: FileIdentity(device: 1, inode: UInt64(number)), size: UInt64(geometry.bytes(inPages: pages)))
    }
  }
}
