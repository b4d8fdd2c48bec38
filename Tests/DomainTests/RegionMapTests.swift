import Domain
import TestSupport
import Testing

@Suite struct RegionMapTests {
  static let page: UInt64 = 4096
  static let largeFile = UInt64(1) << 45

  static func geometry() throws -> PageGeometry { try #require(PageGeometry(pageBytes: 4096, hugePageBytes: 1 << 21)) }

  static func file(_ inode: UInt64, size: UInt64 = largeFile) -> GuestFile {
    GuestFile(identity: FileIdentity(device: 1, inode: inode), size: size)
  }

  static func request(_ address: UInt64, _ size: UInt64, file: Int = 0, offset: UInt64 = 0) -> RegionRequest {
    RegionRequest(address: address, size: size, file: file, offset: offset)
  }

  /// The error, nil where the regions are accepted.
  static func refusal(_ requests: [RegionRequest], _ files: [GuestFile] = [file(1)]) throws -> RegionError? {
    let geometry = try geometry()
    do throws(RegionError) {
      _ = try RegionMap(requests, files: files, geometry: geometry)
      return nil
    } catch { return error }
  }

  // MARK: Index math

  /// A few small regions, of few files, in any order of addresses.
  static func layout(_ choices: inout Choices) -> [RegionRequest] {
    let count = choices.int(in: 1...6)
    var address = UInt64(choices.int(in: 0...3)) * page
    var requests: [RegionRequest] = []
    for number in 0..<count {
      let size = UInt64(choices.int(in: 1...9)) * page
      let offset = UInt64(number * 20 + choices.int(in: 0...10)) * page
      requests.insert(request(address, size, offset: offset), at: choices.int(in: 0...requests.count))
      // Sometimes right behind each other.
      address += size + UInt64(choices.int(in: 0...4)) * page
    }
    choices.note("\(requests.map { "\($0.address / page)+\($0.size / page) at \($0.offset / page)" })")
    return requests
  }

  @Test("addresses, pages and places in the file agree with a page by page count")
  func indexMath() throws {
    let geometry = try Self.geometry()
    try checkProperty("index math is right", cases: 150) { choices in
      let requests = Self.layout(&choices)
      let map = try RegionMap(requests, files: [Self.file(1)], geometry: geometry)
      var pageOfAddress: [UInt64: Int] = [:]
      var number = 0
      for (index, request) in requests.enumerated() {
        for offset in stride(from: 0, to: request.size, by: Int(Self.page)) {
          let page = PageIndex(number)
          pageOfAddress[request.address + offset] = number
          try requireEqual(AddressMap(map).address(of: page), request.address + offset, "address of \(page)")
          try requireEqual(map.regionIndex(of: page), index, "region of \(page)")
          try requireEqual(
            UInt64(map.regions[index].filePage(of: page)) * Self.page, request.offset + offset, "place of \(page)")
          number += 1
        }
      }
      try requireEqual(map.pageCount, number, "pages")
      try requireEqual(map.sizeBytes, UInt64(number) * Self.page, "size")
      for address in stride(from: 0, to: 100 * Self.page, by: Int(Self.page)) {
        for within in [0, 1, Self.page - 1] {
          let found = AddressMap(map).page(atAddress: address + within)
          try requireEqual(found?.rawValue, pageOfAddress[address], "page at \(address) + \(within)")
        }
      }
    }
  }

  @Test("an address range is told as its pages, each once, and nothing outside of the regions")
  func addressRanges() throws {
    let geometry = try Self.geometry()
    try checkProperty("ranges are complete", cases: 300) { choices in
      let map = try RegionMap(Self.layout(&choices), files: [Self.file(1)], geometry: geometry)
      let range = choices.range(below: 100)
      let (start, end) = (UInt64(range.lowerBound) * Self.page, UInt64(range.upperBound) * Self.page)
      choices.note("pages \(range) of the address space")
      var told: [Int] = []
      var isWhole = true
      AddressMap(map).forEachPages(inAddresses: start, end) { pages in
        isWhole = isWhole && !pages.isEmpty && map.regions.contains { $0.pages.contains(pages.lowerBound) }
        told += pages.map(\.rawValue)
      }
      let expected = (0..<map.pageCount).filter {
        (start..<end).contains(AddressMap(map).address(of: PageIndex($0)) ?? 0)
      }
      try requireEqual(told.sorted(), expected, "pages")
      try require(isWhole, "a run is empty")
    }
  }

  @Test("an address range that begins or ends inside a page tells the whole page")
  func unalignedRanges() throws {
    let map = try RegionMap([Self.request(0x10000, 4 * Self.page)], files: [Self.file(1)], geometry: Self.geometry())
    func pages(_ start: UInt64, _ end: UInt64) -> [Int] {
      var told: [Int] = []
      AddressMap(map).forEachPages(inAddresses: start, end) { told += $0.map(\.rawValue) }
      return told
    }
    #expect(pages(0x10001, 0x10002) == [0])
    #expect(pages(0x10fff, 0x11001) == [0, 1])
    #expect(pages(0, .max) == [0, 1, 2, 3])
    #expect(pages(0x12000, 0x12000) == [])
    #expect(pages(0x14000, .max) == [])
    #expect(pages(0, 0x10000) == [])
    #expect(pages(.max, 0) == [])
  }

  @Test("two regions beyond 32 bits, as of a 7 GB machine")
  func largeRegions() throws {
    let (low, high): (UInt64, UInt64) = (3_489_660_928, 3_537_895_424)
    let requests = [Self.request(0x7f00_0000_0000, low), Self.request(0x7f10_0000_0000, high, offset: low)]
    let map = try RegionMap(requests, files: [Self.file(1, size: low + high)], geometry: Self.geometry())
    #expect(map.pageCount == 1_715_712)
    #expect(map.sizeBytes == low + high)
    #expect(map.regions[1].pages == PageIndex(851_968)..<PageIndex(1_715_712))
    #expect(map.regions[1].firstFilePage == 851_968)
    for page in [0, 1, 851_967, 851_968, 1_715_711] {
      #expect(AddressMap(map).page(atAddress: AddressMap(map).address(of: PageIndex(page)) ?? 0) == PageIndex(page))
      #expect(map.regions[page < 851_968 ? 0 : 1].filePage(of: PageIndex(page)) == page)
    }
    #expect(AddressMap(map).page(atAddress: 0x7f00_0000_0000 + low - 1) == PageIndex(851_967))
    #expect(AddressMap(map).page(atAddress: 0x7f00_0000_0000 + low) == nil)
    #expect(AddressMap(map).page(atAddress: 0x7f10_0000_0000 + high) == nil)
    #expect(AddressMap(map).page(atAddress: 0x7f00_0000_0000 - 1) == nil)
    #expect(AddressMap(map).address(of: PageIndex(1_715_711)) == 0x7f10_0000_0000 + high - 4096)
  }

  // MARK: Limits

  @Test("64 regions are right; none and 65 are refused")
  func regionCount() throws {
    func regions(_ count: UInt64) -> [RegionRequest] {
      (0..<count).map { Self.request($0 * 0x10000, Self.page, offset: $0 * Self.page) }
    }
    #expect(try Self.refusal(regions(64)) == nil)
    #expect(try Self.refusal(regions(1)) == nil)
    #expect(try Self.refusal(regions(65)) == .invalid("regions: there are 65, and 1 to 64 are right"))
    #expect(try Self.refusal([]) == .invalid("regions: there are 0, and 1 to 64 are right"))
  }

  @Test("a tenant has at most 2^31 - 2 pages, in one region or in several")
  func pageCount() throws {
    let most = UInt64((1 << 31) - 2) * Self.page
    let message = RegionError.invalid(
      "regions: together they have more than the 2147483646 pages that a tenant may have")
    #expect(try Self.refusal([Self.request(0, most)]) == nil)
    #expect(try Self.refusal([Self.request(0, most + Self.page)]) == message)
    let half = most / 2
    let two = [Self.request(0, half), Self.request(1 << 44, most - half, offset: half)]
    #expect(try Self.refusal(two) == nil)
    let tooMany = [Self.request(0, half), Self.request(1 << 44, most - half + Self.page, offset: half)]
    #expect(try Self.refusal(tooMany) == message)
  }

  @Test("a region may end at the address space's and at the file's last byte")
  func ends() throws {
    let last = UInt64(1) << 63 - Self.page
    #expect(try Self.refusal([Self.request(last, Self.page)]) == nil)
    #expect(
      try Self.refusal([Self.request(0, Self.page, offset: 9 * Self.page)], [Self.file(1, size: 10 * Self.page)]) == nil
    )
  }

  @Test("a map follows what a process moves and unmaps, page for page")
  func movedAndUnmapped() throws {
    let geometry = try Self.geometry()
    try checkProperty("a map follows mremap and munmap", cases: 300) { choices in
      let map = try RegionMap(Self.layout(&choices), files: [Self.file(1)], geometry: geometry)
      var addresses = AddressMap(map)
      var pages: [UInt64: PageIndex] = [:]  // by the number of the address's page
      for page in 0..<map.pageCount {
        pages[try #require(addresses.address(of: PageIndex(page))) / Self.page] = PageIndex(page)
      }
      for _ in 0..<choices.int(in: 1...6) {
        let range = choices.range(below: 100)
        let (start, count) = (UInt64(range.lowerBound), UInt64(range.count))
        let part = pages.filter { (start..<start + count).contains($0.key) }
        for key in part.keys { pages[key] = nil }
        if choices.int(in: 0...1) == 0 {
          // mremap(2) refuses places that overlap.
          let target = start + count + UInt64(choices.int(in: 0...60))
          choices.note("\(range) moves to \(target)")
          addresses.remap(from: start * Self.page, to: target * Self.page, bytes: count * Self.page)
          for key in target..<target + count { pages[key] = nil }
          for (key, page) in part { pages[key - start + target] = page }
        } else {
          choices.note("\(range) is unmapped")
          addresses.unmap(start * Self.page, (start + count) * Self.page)
        }
      }
      for number in 0..<UInt64(300) {
        try requireEqual(addresses.page(atAddress: number * Self.page + 7), pages[number], "page at \(number)")
      }
      for page in 0..<map.pageCount {
        let address = addresses.address(of: PageIndex(page)).map { $0 / Self.page }
        try requireEqual(address, pages.first { $0.value == PageIndex(page) }?.key, "address of \(page)")
      }
      let whole = addresses.mapped(PageIndex(0)..<PageIndex(map.pageCount))
      try requireEqual(whole.reduce(0) { $0 + $1.pages.count }, pages.count, "mapped pages")
      for (address, part) in whole {
        try requireEqual(addresses.firstMapped(of: part)?.address, address, "the first mapped of \(part)")
        try requireEqual(addresses.page(atAddress: address), part.lowerBound, "page at the part's address")
      }
    }
  }
}
