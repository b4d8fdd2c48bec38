/// Where one process maps a tenant's regions: each process may have addresses of its own.
package struct AddressMap: Equatable, Sendable {
  private struct Mapped: Equatable, Sendable {
    let address: UInt64
    let pages: PageRange
  }

  package let geometry: PageGeometry
  private let regions: [Mapped]

  /// The addresses of `register`.
  package init(_ map: RegionMap) {
    geometry = map.geometry
    regions = map.regions.map { Mapped(address: $0.address, pages: $0.pages) }
  }

  /// - Parameter addresses: one for each region, in the order of `register`, in bytes.
  package init(_ map: RegionMap, addresses: [UInt64]) throws(RegionError) {
    guard addresses.count == map.regions.count else {
      throw .invalid("addresses: there are \(addresses.count), and the tenant has \(map.regions.count) regions")
    }
    var regions: [Mapped] = []
    for (number, (address, region)) in zip(addresses, map.regions).enumerated() {
      let bytes = UInt64(map.geometry.bytes(inPages: region.pages.count))
      guard map.geometry.isAligned(address) else {
        throw .invalid("addresses[\(number)]: \(address) is not a multiple of the page size, \(map.geometry.pageBytes)")
      }
      guard address <= (1 << 63) - bytes else {
        throw .invalid("addresses[\(number)]: \(address) and the region's \(bytes) bytes reach past the address space")
      }
      for (other, earlier) in regions.enumerated() {
        let end = earlier.address + UInt64(map.geometry.bytes(inPages: earlier.pages.count))
        guard address >= end || address + bytes <= earlier.address else {
          throw .overlap("addresses[\(other)] and addresses[\(number)]: the regions overlap there")
        }
      }
      regions.append(Mapped(address: address, pages: region.pages))
    }
    geometry = map.geometry
    self.regions = regions
  }

  /// The first address of each region, in bytes.
  package var addresses: [UInt64] { regions.map(\.address) }

  /// The page at an address; nil outside of all regions.
  package func page(atAddress address: UInt64) -> PageIndex? {
    for region in regions where address >= region.address {
      let offset = geometry.pages(inBytes: address - region.address)
      if offset < region.pages.count { return region.pages.lowerBound + offset }
    }
    return nil
  }

  /// - Precondition: the page is one of the tenant's.
  package func address(of page: PageIndex) -> UInt64 {
    for region in regions where region.pages.contains(page) {
      return region.address + UInt64(geometry.bytes(inPages: region.pages.lowerBound.distance(to: page)))
    }
    preconditionFailure("a page that is in no region of its tenant")
  }

  /// Calls `body` with the pages of each region that lie in an address range; parts outside of all regions are passed over.
  package func forEachPages(inAddresses start: UInt64, _ end: UInt64, _ body: (PageRange) -> Void) {
    for region in regions {
      let low = max(start, region.address)
      let high = min(end, region.address + UInt64(geometry.bytes(inPages: region.pages.count)))
      guard low < high else { continue }
      let first = geometry.pages(inBytes: low - region.address)
      let last = geometry.pages(inBytes: high - 1 - region.address)
      body((region.pages.lowerBound + first)..<(region.pages.lowerBound + last + 1))
    }
  }
}
