/// A region as a client names it; all in bytes.
package struct RegionRequest: Equatable, Sendable {
  package let address: UInt64
  package let size: UInt64
  /// Index into the memfds of the request.
  package let file: Int
  package let offset: UInt64

  package init(address: UInt64, size: UInt64, file: Int, offset: UInt64) {
    self.address = address
    self.size = size
    self.file = file
    self.offset = offset
  }
}

/// Tells files apart: two descriptors may be one file.
package struct FileIdentity: Hashable, Sendable {
  package let device: UInt64
  package let inode: UInt64

  package init(device: UInt64, inode: UInt64) {
    self.device = device
    self.inode = inode
  }
}

/// A memfd of a request: which file it is, and how long.
package struct GuestFile: Equatable, Sendable {
  package let identity: FileIdentity
  package let size: UInt64

  package init(identity: FileIdentity, size: UInt64) {
    self.identity = identity
    self.size = size
  }
}

/// A checked region.
package struct Region: Equatable, Sendable {
  /// Where the registering process maps it, in bytes.
  package let address: UInt64
  package let pages: PageRange
  /// Index into the tenant's memfds.
  package let file: Int
  /// Its first page's number in that memfd.
  package let firstFilePage: Int

  package func filePage(of page: PageIndex) -> Int { firstFilePage + pages.lowerBound.distance(to: page) }
}

/// Why regions are refused; the text is for the client, and names the field, the value and what would be right.
package enum RegionError: Error, Equatable {
  case invalid(String)
  case overlap(String)
}

/// The index math of a tenant's regions: addresses, pages and places in memfds.
package struct RegionMap: Equatable, Sendable {
  package static let largestRegionCount = 64
  /// As in the reference.
  package static let largestPageCount = (1 << 31) - 2

  package let geometry: PageGeometry
  package let regions: [Region]
  package var pageCount: Int { regions.last?.pages.upperBound.rawValue ?? 0 }
  package var sizeBytes: UInt64 { UInt64(pageCount) << UInt64(geometry.pageShift) }

  package init(_ requests: [RegionRequest], files: [GuestFile], geometry: PageGeometry) throws(RegionError) {
    guard (1...Self.largestRegionCount).contains(requests.count) else {
      throw .invalid("regions: there are \(requests.count), and 1 to \(Self.largestRegionCount) are right")
    }
    var regions: [Region] = []
    var firstPage = 0
    for (number, request) in requests.enumerated() {
      try Self.check(request, number: number, files: files, geometry: geometry)
      let pages = geometry.pages(inBytes: request.size)
      guard firstPage + pages <= Self.largestPageCount else {
        throw .invalid(
          "regions: together they have more than the \(Self.largestPageCount) pages that a tenant may have")
      }
      regions.append(
        Region(
          address: request.address, pages: PageIndex(firstPage)..<PageIndex(firstPage + pages), file: request.file,
          firstFilePage: geometry.pages(inBytes: request.offset)))
      firstPage += pages
    }
    self.geometry = geometry
    self.regions = regions
    try checkOverlaps(requests, files: files)
  }

  /// - Precondition: the page is one of the tenant's.
  package func regionIndex(of page: PageIndex) -> Int {
    guard let index = regions.firstIndex(where: { $0.pages.contains(page) }) else {
      preconditionFailure("a page that is in no region of its tenant")
    }
    return index
  }

  private static func check(_ request: RegionRequest, number: Int, files: [GuestFile], geometry: PageGeometry)
    throws(RegionError)
  {
    let name = "regions[\(number)]"
    for (field, value) in [("address", request.address), ("size", request.size), ("offset", request.offset)]
    where !geometry.isAligned(value) {
      throw .invalid("\(name).\(field): \(value) is not a multiple of the page size, \(geometry.pageBytes)")
    }
    guard request.size > 0 else { throw .invalid("\(name).size: 0; a region has at least one page") }
    guard !request.address.addingReportingOverflow(request.size).overflow, request.address + request.size <= 1 << 63
    else {
      throw .invalid("\(name): address \(request.address) and size \(request.size) reach past the address space")
    }
    guard files.indices.contains(request.file) else {
      throw .invalid(
        files.isEmpty
          ? "\(name).memfd: \(request.file), and no memfd was sent"
          : "\(name).memfd: \(request.file), and the memfds sent are numbered 0 to \(files.count - 1)")
    }
    let size = files[request.file].size
    guard request.offset <= size, request.size <= size - request.offset else {
      throw .invalid(
        "\(name): offset \(request.offset) and size \(request.size) reach past the end of memfd \(request.file), at \(size)"
      )
    }
  }

  private func checkOverlaps(_ requests: [RegionRequest], files: [GuestFile]) throws(RegionError) {
    for second in requests.indices {
      for first in 0..<second {
        let (one, other) = (requests[first], requests[second])
        if one.address < other.address + other.size && other.address < one.address + one.size {
          throw .overlap(
            "regions[\(first)] and regions[\(second)] overlap in address: \(text(one.address, one.size)) and "
              + "\(text(other.address, other.size))")
        }
        if files[one.file].identity == files[other.file].identity,
          one.offset < other.offset + other.size && other.offset < one.offset + one.size
        {
          throw .overlap(
            "regions[\(first)] and regions[\(second)] overlap in the same file: bytes \(text(one.offset, one.size)) and "
              + "\(text(other.offset, other.size))")
        }
      }
    }
  }

  private func text(_ start: UInt64, _ size: UInt64) -> String {
    "0x\(String(start, radix: 16))..<0x\(String(start + size, radix: 16))"
  }
}
