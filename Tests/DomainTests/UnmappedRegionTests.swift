import Domain
import TestSupport
import Testing

/// Against the promise, a process has unmapped a region while its pages were out.
@Suite struct UnmappedRegionTests {
  static func full(_ page: Int) -> UInt64? { UInt64(100 + page) }

  /// Swaps out, brings one page back and moves it to staging, so that there is something of both; unmaps; disables.
  private func checkDisable(processes: Int, unmapping unmapped: [Int]) throws {
    try Scene.play([.init(pages: 6), .init(pages: 4)], processes: processes, contents: Self.full) { scene in
      try scene.enable()
      try scene.out()
      scene.write(7, to: 3)
      try scene.enable()
      for process in unmapped { scene.unmap(process) }
      try requireEqual(try scene.disable(), 10, "brought back")
      try requireEqual(scene.kernel.guest, (0..<10).map { $0 == 3 ? 7 : Self.full($0) }, "the guest's pages")
      try require(scene.ports.file.isEmpty && !scene.memory.ledger.isOpen, "something is left")
      let restored = scene.calls("guest.restore").count
      try require((restored > 0) == (processes == unmapped.count), "\(restored) runs were written past the mappings")
    }
  }

  @Test("where nobody maps them any more, pages go back into the memfd itself")
  func nobodyMaps() throws { try checkDisable(processes: 2, unmapping: [0, 1]) }

  @Test("where another process maps them still, pages come back through it")
  func anotherMaps() throws { try checkDisable(processes: 3, unmapping: [0, 2]) }
}
