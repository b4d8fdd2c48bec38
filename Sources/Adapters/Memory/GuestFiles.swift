package import Domain
internal import Glibc

/// The memfds behind a tenant's regions.
///
/// They are looked into by SEEK_DATA and pread only: a load through a mapping would fill holes with zeros, for good.
package final class GuestFiles: GuestMemory {
  private let map: RegionMap
  private let files: [Descriptor]
  private let staging: StagingArea
  /// Which files these are.
  package let identities: [FileIdentity]

  package init(map: RegionMap, files: [Descriptor], identities: [FileIdentity], staging: StagingArea) {
    self.map = map
    self.identities = identities
    self.staging = staging
    self.files = files.map(Self.ownDescription)
  }

  /// SEEK_DATA moves the file position, which a passed descriptor shares with the client: one of our own does not.
  private static func ownDescription(of file: Descriptor) -> Descriptor {
    let raw = open("/proc/self/fd/\(file.raw)", O_RDWR | O_CLOEXEC)
    return raw >= 0 ? Descriptor(owning: raw) : file
  }

  package func firstData(in range: PageRange) throws(PortFailure) -> PageIndex? {
    let place = place(of: range)
    guard let data = try dataOffset(place) else { return nil }
    return range.lowerBound + ((data - place.offset) >> map.geometry.pageShift)
  }

  package func nextData(in range: PageRange) throws(PortFailure) -> PageRange? {
    let place = place(of: range)
    let bytes = place.offset..<(place.offset + place.bytes)
    guard let data = try Adapters.nextData(place.file, in: bytes, operation: .findGuestData) else { return nil }
    let (first, end) = (data.lowerBound - place.offset, data.upperBound - place.offset + map.geometry.pageBytes - 1)
    return (range.lowerBound + (first >> map.geometry.pageShift))..<(range.lowerBound + (end >> map.geometry.pageShift))
  }

  package func copyToStaging(_ pages: PageRange) throws(PortFailure) -> [PageIndex] {
    var zero: [PageIndex] = []
    let place = place(of: pages)
    try staging.buffers.with(pages: pages.count, for: .readGuestMemory) { (buffer) throws(PortFailure) in
      var done = 0
      while done < pages.count {
        let (first, count) = (done, min(buffer.capacityPages, pages.count - done))
        // So much at a time as is in the processor's cache when it is looked at.
        while done < first + count {
          let part = min(staging.cachedPages, first + count - done)
          let bytes = UnsafeMutableRawBufferPointer(
            start: buffer.page(done - first), count: map.geometry.bytes(inPages: part))
          try readAll(
            place.file, bytes, at: place.offset + map.geometry.bytes(inPages: done), operation: .readGuestMemory)
          for number in 0..<part
          where isZeroPage(bytes.baseAddress! + map.geometry.bytes(inPages: number), map.geometry) {
            zero.append(pages.lowerBound + done + number)
          }
          done += part
        }
        // Much at a time: each write takes the lock of all staging memory, which somebody else may be copying to, too.
        try staging.write(UnsafeRawBufferPointer(buffer.bytes(count)), at: pages.lowerBound + first)
      }
    }
    return zero
  }

  package func punch(_ pages: PageRange) throws(PortFailure) {
    let place = place(of: pages)
    try punchHole(place.file, offset: place.offset, bytes: place.bytes, operation: .punchGuestMemory)
  }

  package func restore(_ pages: PageRange, from source: PageSource<LockedBuffer>) throws(PortFailure) {
    try staging.forEachPart(of: pages, from: source) { (part, bytes) throws(PortFailure) in
      let place = place(of: part)
      try writeAll(place.file, UnsafeRawBufferPointer(bytes), at: place.offset, operation: .restoreGuestMemory)
    }
  }

  /// Pages with data in all regions, or allocated (fallocate(2)).
  package func residentPages() throws(PortFailure) -> Int {
    var count = 0
    for region in map.regions {
      let place = self.place(of: region.pages)
      if let pages = cachedPages(place.file, offset: place.offset, bytes: place.bytes) {
        count += pages.cached + pages.evicted
      } else {
        count += try pagesWithData(region.pages)
      }
    }
    return count
  }

  /// By a walk, which waits for the file's lock and costs several times as much.
  private func pagesWithData(_ pages: PageRange) throws(PortFailure) -> Int {
    var (count, position) = (0, pages.lowerBound)
    while position < pages.upperBound, let data = try nextData(in: position..<pages.upperBound) {
      count += data.count
      position = data.upperBound
    }
    return count
  }

  private func dataOffset(_ place: (file: Descriptor, offset: Int, bytes: Int)) throws(PortFailure) -> Int? {
    let (data, errorNumber) = retryingInterrupts { lseek(place.file.raw, place.offset, SEEK_DATA) }
    if data >= 0 { return data < place.offset + place.bytes ? data : nil }
    if errorNumber == ENXIO { return nil }  // no data up to the file's end
    throw PortFailure(.findGuestData, errorNumber: errorNumber)
  }

  private func place(of pages: PageRange) -> (file: Descriptor, offset: Int, bytes: Int) {
    let region = map.regions[map.regionIndex(of: pages.lowerBound)]
    return (
      files[region.file], map.geometry.bytes(inPages: region.filePage(of: pages.lowerBound)),
      map.geometry.bytes(inPages: pages.count)
    )
  }
}
