import Glibc
import Testing

@testable import Adapters
@testable import App

/// Memory of the test process in several large regions, of which few pages are resident.
final class SparseTenant {
  let client: Client
  private let userfaultfd: Descriptor
  private var files: [Descriptor] = []
  private var mappings: [MemoryMapping] = []
  private var resident: [UnsafeMutablePointer<UInt64>] = []

  init(_ daemon: Daemon, sizes: [Int], residentPages: Int) throws {
    client = try daemon.client()
    userfaultfd = try Userfaultfd.create().descriptor
    var regions: [JSONValue] = []
    for (number, size) in sizes.enumerated() {
      let file = Descriptor(owning: memfd_create("sparse", UInt32(MFD_ALLOW_SEALING)))
      #expect(ftruncate(file.raw, size) == 0 && fcntl(file.raw, F_ADD_SEALS, F_SEAL_SHRINK) == 0)
      let mapping = try MemoryMapping(of: file, bytes: size, writable: true, operation: "mapping a region")
      let address = UInt64(UInt(bitPattern: mapping.address))
      regions.append(
        .object(["address": .unsigned(address), "size": .int(size), "memfd": .int(number), "offset": 0]))
      files.append(file)
      mappings.append(mapping)
    }
    for number in 0..<residentPages {
      let mapping = mappings[number % sizes.count]
      let page = Int(SplitMix.mix(UInt64(number)) % UInt64(mapping.count >> 12))
      let place = (mapping.address + (page << 12)).assumingMemoryBound(to: UInt64.self)
      #expect(place.pointee == 0, "two pages of the test fall on each other: choose other numbers")
      place.pointee = UInt64(number) + 1
      resident.append(place)
    }
    _ = try client.ask(
      ["op": "register", "protocol": 1, "tenant": "sparse", "freeze": "caller", "regions": .array(regions)],
      descriptors: [userfaultfd] + files)
  }

  func isIntact() -> Bool { resident.enumerated().allSatisfy { $1.pointee == UInt64($0) + 1 } }
}
