import Domain
import TestSupport
import Testing

/// The behaviours that the reference system's own tests pin down, 22 of them, in our words: page handler (1 to 20) and
/// controller (21, 22). Each is one named test here, or stands in `elsewhere` with the test that checks it as sharply.
@Suite("what the reference does") struct ReferenceBehaviourTests {
  /// Case, what it says, and where it is checked: file under Tests, and the test's name.
  static let elsewhere: [(number: Int, behaviour: String, file: String, test: String)] = [
    (
      1, "regions side by side, each with its first page and its place in the file's page space, are taken",
      "DomainTests/RegionMapTests.swift", "addresses, pages and places in the file agree with a page by page count"
    ),
    (
      2, "a region that overlaps an earlier one in part is refused, and both are named",
      "DomainTests/RegionErrorTests.swift", "a wrong region is refused by name, value and remedy"
    ),
    (
      3, "so is one that lies around or inside another, and one without pages",
      "DomainTests/RegionErrorTests.swift", "a wrong region is refused by name, value and remedy"
    ),
    (
      // Differs: the reference refuses unaligned ends; a fault in the middle of a remove would then be lost on the rest.
      10, "a remove that begins or ends inside a page",
      "DomainTests/RegionMapTests.swift", "an address range that begins or ends inside a page tells the whole page"
    ),
    (
      // Differs: moves go by the map, not by address, so only `register` can be given a wrong one.
      13, "memory that is not a region's is not moved",
      "AppTests/RegistrationTests.swift", "every refusal has its code and names the field, and leaks no descriptor"
    ),
    (
      21, "enable, trim, out and disable, each state after the other, and one ends another",
      "AppTests/DaemonTests.swift", "a whole life: every page right in every state"
    ),
  ]

  @Test("each of the 22 behaviours has a test, and those that stand elsewhere are there")
  func allAreThere() throws {
    let tests = #filePath.split(separator: "/").dropLast(2).reduce("") { $0 + "/" + $1 }
    func contents(_ file: String) throws -> String {
      try #require(ArchitectureTests.contents(of: "\(tests)/\(file)"), "\(file) can't be read")
    }
    var found = Self.elsewhere.map(\.number)
    let own =
      try contents("DomainTests/ReferenceBehaviourTests.swift") + contents("DomainTests/ReferenceJobTests.swift")
    for line in own.split(separator: "\n") {
      guard let start = line.firstRange(of: "@Test(\"reference ") else { continue }
      found.append(try #require(Int(line[start.upperBound...].prefix { $0.isNumber })))
    }
    #expect(found.sorted() == Array(1...22))
    for (number, _, file, test) in Self.elsewhere {
      let text = try contents(file)
      // Named by a string, perhaps on a line of its own, or by a function's raw name.
      let isThere = text.contains("func `\(test)`(") || text.contains("@Test(\"\(test)\"")
      #expect(isThere, "case \(number): no test \"\(test)\" in \(file)")
    }
  }

  /// Page p holds 100 + p.
  static func full(_ page: Int) -> UInt64? { UInt64(100 + page) }

  // MARK: Faults

  @Test("reference 4: a page that was never written comes in as zeros, and is counted")
  func zeroFault() throws {
    try Scene.play([.init(pages: 6)], contents: { _ in nil }) { scene in
      try scene.enable()
      try requireEqual(scene.read(2), 0, "page 2")
      try requireEqual(scene.kernel.guest, [nil, nil, 0, nil, nil, nil], "the guest's pages")
      try requireEqual(scene.counts.faults.zeroed, 1, "zeroed")
      try requireEqual(scene.counts.faults.total, 1, "faults")
    }
  }

  @Test("reference 5: a staged page comes back with its content, alone, and leaves staging")
  func stagedFault() throws {
    try Scene.play([.init(pages: 3), .init(pages: 3)], contents: Self.full) { scene in
      try scene.enable()
      try requireEqual(scene.read(4), 104, "page 4")
      try requireEqual(scene.kernel.guest, [nil, nil, nil, nil, 104, nil], "the guest's pages")
      try requireEqual(scene.counts.staged, 5, "staged")
      try requireEqual(scene.counts.faults.copiedFromStaging, 1, "copied from staging")
      try requireEqual(try scene.memory.releaseStaging(limit: 9), 1, "given back")
      try requireEqual(scene.kernel.staging, [100, 101, 102, 103, nil, 105], "staging memory")
    }
  }

  @Test("a copy whose memory could not be given back is given back the next time")
  func releaseFails() throws {
    try Scene.play([.init(pages: 3)], contents: Self.full) { scene in
      try scene.enable()
      try requireEqual(scene.read(1), 101, "page 1")
      scene.kernel.injector.plan = .random(perMille: 1000)
      scene.kernel.injector.isOn = true
      #expect(throws: PortFailure.self) { try scene.memory.releaseStaging(limit: 9) }
      scene.kernel.injector.isOn = false
      try requireEqual(scene.kernel.staging, [100, 101, 102], "staging memory")
      try requireEqual(try scene.memory.releaseStaging(limit: 9), 1, "given back")
      try requireEqual(scene.kernel.staging, [100, nil, 102], "staging memory")
    }
  }

  @Test("reference 6: a page in the file comes back with its content, and stays on disk to be found unchanged")
  func fileFault() throws {
    try Scene.play([.init(pages: 3), .init(pages: 3)], contents: Self.full) { scene in
      try scene.enable()
      try scene.out()
      try requireEqual(scene.read(4), 104, "page 4")
      try requireEqual(scene.counts.file, 5, "in the file")
      try requireEqual(scene.counts.faults.copiedFromFile, 1, "copied from the file")
      try requireEqual(try scene.enable(), 1, "moved again")
      try requireEqual(try scene.trim().unchanged, 1, "unchanged")
      try requireEqual(scene.counts.file, 6, "in the file again")
      try requireEqual(scene.calls("file.write").count, 2, "writes")  // of 6 pages, by 4
    }
  }

  @Test("reference 7: a second fault on a page is no error, changes nothing, and counts as redundant")
  func duplicateFault() throws {
    try Scene.play([.init(pages: 4)], processes: 2, contents: { $0 == 0 ? nil : 100 + UInt64($0) }) { scene in
      try scene.enable()
      let faults = FaultService(memory: scene.memory)
      for (page, content) in [(0, UInt64(0)), (1, 101)] {
        for process in scene.ports.processes {
          try requireEqual(faults.serve(PageIndex(page), from: process), .served, "a fault at \(page)")
        }
        try requireEqual(scene.kernel.guest[page], content, "page \(page)")
      }
      let counters = scene.counts.faults
      try requireEqual(counters.redundant, 2, "redundant")
      try requireEqual([counters.zeroed, counters.copiedFromStaging], [1, 1], "zeroed, copied")
      try requireEqual(
        scene.calls("process 1.wake"), ["process 1.wake(0..<1)", "process 1.wake(1..<2)"], "who waits is woken")
    }
  }

  @Test("reference 8: a fault in no region is told with its address, and touches nothing")
  func faultOutside() throws {
    try Scene.play([.init(pages: 3), .init(pages: 3)], contents: Self.full) { scene in
      try scene.enable()
      let process = scene.ports.processes[0]
      let faults = FaultService(memory: scene.memory)
      for region in scene.memory.map.regions {
        let start = try #require(process.addresses.address(of: region.pages.lowerBound))
        for address in [start - 1, start + UInt64(region.pages.count * 4096), 0, .max] {
          try requireEqual(faults.serve(address: address, from: process), .outside(address: address), "a fault")
        }
      }
      try requireEqual(scene.counts.faults.total, 0, "faults")
      try requireEqual(scene.counts.staged, 6, "staged")
    }
  }

  // MARK: Removes

  @Test("reference 9: removed pages are forgotten in staging and in the file, and read as zeros ever after")
  func remove() throws {
    try Scene.play([.init(pages: 8)], contents: Self.full) { scene in
      try scene.enable()
      scene.remove(6..<8)
      try requireEqual(scene.counts.staged, 6, "staged")
      try requireEqual(try scene.out(), 6, "written")
      try requireEqual(scene.read(0), 100, "page 0")  // resident, its slot stale
      scene.remove(0..<3)
      try requireEqual(scene.counts.file, 3, "in the file")
      for page in [0, 1, 6] { try requireEqual(scene.read(page), 0, "page \(page)") }
      scene.write(100, to: 0)  // what its slot held: freed, it must not be found again
      scene.write(101, to: 1)
      try scene.enable()
      let trimmed = try scene.trim()
      try requireEqual([trimmed.zero, trimmed.unchanged], [1, 0], "zero, unchanged")
      try scene.out()
      try scene.disable()
      try requireEqual((0..<8).map { scene.read($0) }, [100, 101, 0, 103, 104, 105, 0, 0], "at the end")
    }
  }

  // MARK: Moving to staging

  @Test("reference 11: a move takes every page with data, no hole, and tells how many")
  func move() throws {
    let contents = { (page: Int) -> UInt64? in page % 3 == 1 ? nil : 100 + UInt64(page) }
    try Scene.play([.init(pages: 5), .init(pages: 9, filePage: 2)], contents: contents) { scene in
      try requireEqual(try scene.enable(), 9, "moved")
      try require(scene.kernel.guest.allSatisfy { $0 == nil }, "something was left")
      try requireEqual(scene.kernel.staging, (0..<14).map(contents), "staging memory")
      for page in 0..<14 { try requireEqual(scene.read(page), contents(page) ?? 0, "page \(page)") }
    }
  }

  @Test("reference 12: no huge page is removed in part; holes inside are removed with the rest")
  func hugePages() throws {
    // Pages 1 to 11 of the file; a huge page has 4.
    let contents = { (page: Int) -> UInt64? in [1, 4, 5].contains(page) ? 7 : nil }
    try Scene.play([.init(pages: 11, filePage: 1)], contents: contents) { scene in
      try requireEqual(try scene.enable(), 3, "moved")
      try requireEqual(
        scene.calls("guest.punch").sorted(), ["guest.punch(0..<3)", "guest.punch(3..<7)"], "what was removed")
      try requireEqual(scene.calls("process 0.protect").count, 2, "windows without data are left alone")
    }
  }
}
