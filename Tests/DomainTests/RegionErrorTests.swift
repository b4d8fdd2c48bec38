import Domain
import TestSupport
import Testing

/// Each refusal names the field, the value and what would be right.
@Suite struct RegionErrorTests {
  static let page = RegionMapTests.page

  struct Refused: CustomTestStringConvertible {
    let what: String
    let second: RegionRequest
    let error: RegionError
    var testDescription: String { what }
  }

  static func bad(
    _ what: String, address: UInt64 = 0x20000, size: UInt64 = page, file: Int = 0, offset: UInt64 = 0x20000,
    _ error: RegionError
  ) -> Refused {
    Refused(what: what, second: RegionRequest(address: address, size: size, file: file, offset: offset), error: error)
  }

  /// Beside a right region of pages 0x10...0x11, at the same offset of a file of 0x100 pages.
  static let refused = [
    bad(
      "an address inside a page", address: 0x20001,
      .invalid("regions[1].address: 131073 is not a multiple of the page size, 4096")),
    bad("a size inside a page", size: 4095, .invalid("regions[1].size: 4095 is not a multiple of the page size, 4096")),
    bad(
      "an offset inside a page", offset: 2048,
      .invalid("regions[1].offset: 2048 is not a multiple of the page size, 4096")),
    bad("no size", size: 0, .invalid("regions[1].size: 0; a region has at least one page")),
    bad(
      "an address whose end overflows", address: .max - 4095,
      .invalid("regions[1]: address 18446744073709547520 and size 4096 reach past the address space")),
    bad(
      "an address in the kernel's half", address: 1 << 63,
      .invalid("regions[1]: address 9223372036854775808 and size 4096 reach past the address space")),
    bad("a memfd behind the last", file: 2, .invalid("regions[1].memfd: 2, and the memfds sent are numbered 0 to 1")),
    bad("a negative memfd", file: -1, .invalid("regions[1].memfd: -1, and the memfds sent are numbered 0 to 1")),
    bad(
      "an end behind the file's", size: 2 * page, offset: 0xff000,
      .invalid("regions[1]: offset 1044480 and size 8192 reach past the end of memfd 0, at 1048576")),
    bad(
      "an offset behind the file's end", offset: 0x101000,
      .invalid("regions[1]: offset 1052672 and size 4096 reach past the end of memfd 0, at 1048576")),
    bad(
      "an offset that overflows with the size", offset: .max - 4095,
      .invalid("regions[1]: offset 18446744073709547520 and size 4096 reach past the end of memfd 0, at 1048576")),
    bad(
      "the same address", address: 0x11000,
      .overlap("regions[0] and regions[1] overlap in address: 0x10000..<0x12000 and 0x11000..<0x12000")),
    bad(
      "an address range around the other's", address: 0xf000, size: 4 * page,
      .overlap("regions[0] and regions[1] overlap in address: 0x10000..<0x12000 and 0xf000..<0x13000")),
    bad(
      "the same bytes of the file", size: 2 * page, offset: 0xf000,
      .overlap("regions[0] and regions[1] overlap in the same file: bytes 0x10000..<0x12000 and 0xf000..<0x11000")),
    bad(
      "the same bytes of one file through another descriptor", file: 1, offset: 0x11000,
      .overlap("regions[0] and regions[1] overlap in the same file: bytes 0x10000..<0x12000 and 0x11000..<0x12000")),
  ]

  @Test("a wrong region is refused by name, value and remedy", arguments: refused)
  func isRefused(_ refused: Refused) throws {
    // Both memfds are one file.
    let files = [RegionMapTests.file(7, size: 0x100000), RegionMapTests.file(7, size: 0x100000)]
    let first = RegionMapTests.request(0x10000, 2 * Self.page, offset: 0x10000)
    #expect(try RegionMapTests.refusal([first], files) == nil)
    #expect(try RegionMapTests.refusal([first, refused.second], files) == refused.error)
  }

  @Test("neighbours in address and in file do not overlap, and files are told by device and inode")
  func neighbours() throws {
    let first = RegionMapTests.request(0x10000, 2 * Self.page, offset: 0x10000)
    let same = RegionMapTests.file(7)
    let behind = RegionMapTests.request(0x12000, Self.page, file: 1, offset: 0x12000)
    let before = RegionMapTests.request(0xf000, Self.page, file: 1, offset: 0xf000)
    #expect(try RegionMapTests.refusal([first, behind, before], [same, same]) == nil)
    let sameBytes = RegionMapTests.request(0x20000, 2 * Self.page, file: 1, offset: 0x10000)
    let otherDevice = GuestFile(identity: FileIdentity(device: 2, inode: 7), size: same.size)
    #expect(try RegionMapTests.refusal([first, sameBytes], [same, otherDevice]) == nil)
    #expect(try RegionMapTests.refusal([first, sameBytes], [same, RegionMapTests.file(8)]) == nil)
  }

  @Test("a request without memfds is told so")
  func noFiles() throws {
    let error = try RegionMapTests.refusal([RegionMapTests.request(0, Self.page)], [])
    #expect(error != nil)
    #expect(error != .invalid("regions[0].memfd: 0, and the memfds sent are numbered 0 to -1"))
  }

  @Test("no request of any numbers traps, and what is accepted is sound")
  func anyNumbers() throws {
    let geometry = try RegionMapTests.geometry()
    let edges: [UInt64] = [0, 1, 4095, 4096, 8192, 1 << 32, 1 << 43, 1 << 62, 1 << 63, .max - 4095, .max]
    try checkProperty("any request is answered", cases: 1000) { choices in
      func number(_ choices: inout Choices) -> UInt64 {
        choices.chance(oneIn: 5) ? choices.number(upTo: .max) : choices.element(of: edges)
      }
      let files = [RegionMapTests.file(1, size: number(&choices)), RegionMapTests.file(2, size: number(&choices))]
      let requests = choices.list(upTo: 4) { choices in
        RegionRequest(
          address: number(&choices), size: number(&choices), file: choices.int(in: -1...2), offset: number(&choices))
      }
      choices.note("\(requests)")
      guard let map = try? RegionMap(requests, files: files, geometry: geometry) else { return }
      try requireEqual(map.regions.count, requests.count, "regions")
      for (region, request) in zip(map.regions, requests) {
        try requireEqual(UInt64(region.pages.count) * 4096, request.size, "size")
        try require(request.offset + request.size <= files[request.file].size, "it reaches past the file")
        try requireEqual(AddressMap(map).page(atAddress: request.address), region.pages.lowerBound, "its first page")
      }
    }
  }
}

@Suite struct FileClaimsTests {
  static func request(_ pages: Range<Int>, file: Int = 0) -> RegionRequest {
    RegionMapTests.request(1 << 30, UInt64(pages.count) * 4096, file: file, offset: UInt64(pages.lowerBound) * 4096)
  }

  @Test("bytes that belong to a tenant are refused to others, by name and range")
  func refusal() throws {
    var claims = FileClaims()
    let file = RegionMapTests.file(5)
    try claims.claim([Self.request(2..<4)], files: [file], tenant: "a")
    let error = #expect(throws: RegionError.self) {
      try claims.claim([Self.request(8..<9), Self.request(3..<6)], files: [file], tenant: "b")
    }
    #expect(error == .overlap("regions[1]: bytes 12288..<24576 of memfd 0 belong to another tenant already"))
    // Nothing of a refused request is claimed.
    try claims.claim([Self.request(8..<9)], files: [file], tenant: "c")
  }

  @Test("claims agree with a table of pages and their tenants")
  func behavesAsTable() throws {
    try checkProperty("no byte is given twice", cases: 200) { choices in
      var claims = FileClaims()
      var owners: [[String?]] = [.init(repeating: nil, count: 30), .init(repeating: nil, count: 30)]
      // The third descriptor is the first file again.
      let files = [RegionMapTests.file(1), RegionMapTests.file(2), RegionMapTests.file(1)]
      try choices.rounds(upTo: 25) { choices in
        let tenant = choices.element(of: ["a", "b", "c", "d"])
        guard choices.int(below: 4) > 0 else {
          choices.note("release \(tenant)")
          claims.release(tenant: tenant)
          for file in owners.indices { owners[file] = owners[file].map { $0 == tenant ? nil : $0 } }
          return
        }
        let start = choices.int(below: 25)
        let pages = start..<(start + choices.int(in: 1...5))
        let file = choices.int(below: 3)
        choices.note("claim \(pages) of \(file) for \(tenant)")
        let isFree = pages.allSatisfy { owners[file % 2][$0] == nil }
        var isClaimed = true
        do throws(RegionError) {
          try claims.claim([Self.request(pages, file: file)], files: files, tenant: tenant)
        } catch { isClaimed = false }
        try requireEqual(isClaimed, isFree, "claim of \(pages) of \(file)")
        if isFree { for page in pages { owners[file % 2][page] = tenant } }
      }
    }
  }
}
