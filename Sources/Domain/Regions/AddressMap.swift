/// Where one process maps a tenant's regions: each process may have addresses of its own, and may move and unmap parts.
package struct AddressMap: Equatable, Sendable {
  private struct Mapped: Equatable, Sendable {
    let address: UInt64
    let pages: PageRange
  }

  package let geometry: PageGeometry
  /// Whole regions at first; parts of them once the process has moved or unmapped some.
  private var regions: [Mapped]

  /// The addresses of `register`.
  package init(_ map: RegionMap) {
    geometry = map.geometry
    regions = map.regions.map { Mapped(address: $0.address, pages: $0.pages) }
  }

  /// From what `mapped` has told.
  package init(_ map: RegionMap, parts: [(address: UInt64, pages: PageRange)]) {
    geometry = map.geometry
    regions = parts.map { Mapped(address: $0.address, pages: $0.pages) }
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

  /// The first address of each region, in bytes, as long as the process has moved none of them.
  package var addresses: [UInt64] { regions.map(\.address) }

  /// The page at an address; nil outside of all regions.
  package func page(atAddress address: UInt64) -> PageIndex? {
    for region in regions where address >= region.address {
      let offset = geometry.pages(inBytes: address - region.address)
      if offset < region.pages.count { return region.pages.lowerBound + offset }
    }
    return nil
  }

  /// Where a page is mapped; nil where the process has unmapped it.
  package func address(of page: PageIndex) -> UInt64? {
    for region in regions where region.pages.contains(page) { return address(of: page, in: region) }
    return nil
  }

  /// The first pages of a range, as far as they are mapped one behind the other; nil where the first one is not mapped, or
  /// there is none.
  package func firstMapped(of pages: PageRange) -> (address: UInt64, pages: PageRange)? {
    guard !pages.isEmpty else { return nil }
    for region in regions where region.pages.contains(pages.lowerBound) {
      return (
        address(of: pages.lowerBound, in: region),
        pages.lowerBound..<min(pages.upperBound, region.pages.upperBound)
      )
    }
    return nil
  }

  /// The parts of a range of pages that are mapped, each at consecutive addresses.
  package func mapped(_ pages: PageRange) -> [(address: UInt64, pages: PageRange)] {
    regions.compactMap { region in
      let part = pages.clamped(to: region.pages)
      return part.isEmpty ? nil : (address(of: part.lowerBound, in: region), part)
    }
  }

  /// Calls `body` with the pages of each region that lie in an address range; parts outside of all regions are passed over.
  package func forEachPages(inAddresses start: UInt64, _ end: UInt64, _ body: (PageRange) -> Void) {
    for region in regions { if let part = part(of: region, inAddresses: start, end) { body(part) } }
  }

  /// The process maps pages, which it mapped nowhere.
  package mutating func map(_ pages: PageRange, at address: UInt64) {
    regions.append(Mapped(address: address, pages: pages))
  }

  /// The process has unmapped a range of addresses.
  package mutating func unmap(_ start: UInt64, _ end: UInt64) {
    regions = regions.flatMap { region in
      guard let gone = part(of: region, inAddresses: start, end) else { return [region] }
      return [
        region.pages.lowerBound..<gone.lowerBound, gone.upperBound..<region.pages.upperBound,
      ].filter { !$0.isEmpty }.map { Mapped(address: address(of: $0.lowerBound, in: region), pages: $0) }
    }
  }

  /// The process has moved a range of addresses (mremap(2)).
  package mutating func remap(from old: UInt64, to new: UInt64, bytes: UInt64) {
    guard (old | new | bytes) % UInt64(geometry.pageBytes) == 0 else { return }  // no kernel moves parts of pages
    let moved = regions.compactMap { region in
      part(of: region, inAddresses: old, old + bytes).map { part in
        Mapped(address: new + (address(of: part.lowerBound, in: region) - old), pages: part)
      }
    }
    unmap(old, old + bytes)
    unmap(new, new + bytes)
    regions += moved
  }

  private func address(of page: PageIndex, in region: Mapped) -> UInt64 {
    region.address + UInt64(geometry.bytes(inPages: region.pages.lowerBound.distance(to: page)))
  }

  /// The pages of a region in an address range; nil where there are none.
  private func part(of region: Mapped, inAddresses start: UInt64, _ end: UInt64) -> PageRange? {
    let low = max(start, region.address)
    let high = min(end, region.address + UInt64(geometry.bytes(inPages: region.pages.count)))
    guard low < high else { return nil }
    let first = geometry.pages(inBytes: low - region.address)
    let last = geometry.pages(inBytes: high - 1 - region.address)
    return (region.pages.lowerBound + first)..<(region.pages.lowerBound + last + 1)
  }
}
