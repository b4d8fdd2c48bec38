import Glibc

@testable import Adapters
@testable import App
@testable import Domain

/// What Tests/Fuzz/run feeds with anything, and the tests with what that has found interesting.
enum FuzzTargets {
  /// A packet: decoded, and answered as the daemon would.
  static func request(_ bytes: [UInt8]) {
    let decoded = DecodedRequest(bytes)
    if let id = decoded.id {
      precondition(id.count <= DecodedRequest.longestIdentifier, "an id too long to be repeated")
      // (A number that is too large is JSON, and more than the decoder takes.)
      let isHuge = id.contains { $0 | 0x20 == UInt8(ascii: "e") } || id.count > 300
      let reply = Array("[".utf8) + id + Array("]".utf8)
      precondition(isHuge || JSONValue.parse(reply) != nil, "an id that makes the reply no JSON")
    }
    guard case .success(let request) = decoded.request else { return }
    if case .register(let body) = request, let geometry = PageGeometry(pageBytes: 4096, hugePageBytes: 2 << 20) {
      let file = GuestFile(identity: FileIdentity(device: 1, inode: 1), size: 1 << 40)
      do {
        let map = try RegionMap(body.regions.map(\.request), files: [file, file], geometry: geometry)
        precondition(map.sizeBytes > 0, "regions without pages")
      } catch {}
    }
  }

  /// What a userfaultfd has left in an event buffer: each event is followed, as the fault service does.
  static func events(_ bytes: [UInt8]) {
    guard let geometry = PageGeometry(pageBytes: 4096, hugePageBytes: 2 << 20) else { return }
    do {
      let regions = [
        RegionRequest(address: 1 << 30, size: 1 << 20, file: 0, offset: 0),
        RegionRequest(address: 1 << 31, size: 4 << 20, file: 0, offset: 1 << 20),
      ]
      let file = GuestFile(identity: FileIdentity(device: 1, inode: 1), size: 1 << 30)
      let map = try RegionMap(regions, files: [file], geometry: geometry)
      var addresses = AddressMap(map)
      let header = [UInt8](repeating: 0, count: 64)
      let memory = try makeMemoryFile("fuzz", containing: header + bytes.prefix(4032), count: 4096)
      let buffer = try EventBuffer(adopting: memory)
      precondition(buffer.count <= EventBuffer.capacity, "more events than fit")
      for number in 0..<buffer.count {
        switch buffer.event(at: number) {
        case .missing(let address), .writeProtected(let address): _ = addresses.page(atAddress: address)
        case .removed(let start, let end):
          addresses.forEachPages(inAddresses: start, end) { pages in
            precondition(pages.lowerBound.rawValue >= 0 && pages.upperBound.rawValue <= map.pageCount, "no such page")
          }
        case .remapped(let from, let to, let bytes): addresses.remap(from: from, to: to, bytes: bytes)
        case .unmapped(let start, let end): addresses.unmap(start, end)
        case .forked, .other: break
        }
      }
      buffer.clear()
      precondition(buffer.count == 0, "a buffer that is not empty")
    } catch {}
  }
}
