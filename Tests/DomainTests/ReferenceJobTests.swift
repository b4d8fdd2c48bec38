import Domain
import TestSupport
import Testing

/// The second half of what the reference does: jobs, metrics and processes.
extension ReferenceBehaviourTests {
  // MARK: Out to the file

  @Test("reference 14: staged pages are written in order, a huge page's worth at a time, to consecutive places")
  func swapOut() throws {
    let contents = { (page: Int) -> UInt64? in page == 3 || page == 7 ? nil : 100 + UInt64(page) }
    try Scene.play([.init(pages: 5), .init(pages: 5)], contents: contents) { scene in
      try scene.enable()
      var job = SwapOutJob(memory: scene.memory)
      try require(try scene.step(&job), "it goes on")
      try requireEqual(job.pages, 8, "written")
      try requireEqual(scene.counts.staged, 0, "staged")
      try requireEqual(scene.counts.file, 8, "in the file")
      try require(!(try scene.step(&job)), "nothing is left")
      try requireEqual(
        scene.calls("file.write").sorted(),
        ["file.write([0, 1, 2, 4] to slots 0..<4)", "file.write([5, 6, 8, 9] to slots 4..<8)"], "writes")
      try requireEqual(scene.kernel.staging, [UInt64?](repeating: nil, count: 10), "staging memory")
    }
  }

  @Test("reference 15: pages that came back or were removed are not written")
  func swapOutHandled() throws {
    try Scene.play([.init(pages: 6)], contents: Self.full) { scene in
      try scene.enable()
      try requireEqual(scene.read(1), 101, "page 1")
      scene.remove(3..<5)
      try requireEqual(try scene.out(), 3, "written")
      try requireEqual(scene.calls("file.write"), ["file.write([0, 2, 5] to slots 0..<3)"], "writes")
      try requireEqual(scene.counts.file, 3, "in the file")
    }
  }

  @Test("reference 16: out again writes what has changed, and every page is what was written last")
  func swapOutTwice() throws {
    try Scene.play([.init(pages: 4)], contents: Self.full) { scene in
      try scene.enable()
      try scene.out()
      scene.write(7, to: 3)
      try requireEqual(scene.read(2), 102, "page 2")
      try requireEqual(try scene.enable(), 2, "moved")
      try requireEqual(try scene.trim().unchanged, 1, "unchanged")
      try requireEqual(try scene.out(), 1, "written")
      try require(scene.calls("file.write").last?.hasPrefix("file.write([3] to") == true, "page 3 alone is written")
      try requireEqual((0..<4).map { scene.read($0) }, [100, 101, 102, 7], "all pages")
    }
  }

  // MARK: Back in

  @Test("reference 17: swap-in brings all back, from staging first, then from the file, and leaves nothing behind")
  func swapIn() throws {
    try Scene.play([.init(pages: 5), .init(pages: 6, filePage: 3)], contents: Self.full) { scene in
      try scene.enable()
      try scene.out()
      for page in [1, 8] { scene.write(UInt64(page), to: page) }
      try scene.enable()
      let reads = scene.calls("readAhead.start").count
      try requireEqual(try scene.disable(), 11, "brought back")
      let contents = (0..<11).map { page -> UInt64? in page == 1 || page == 8 ? UInt64(page) : Self.full(page) }
      try requireEqual(scene.kernel.guest, contents, "the guest's pages")
      try require(scene.calls("readAhead.start").count > reads, "it reads ahead")
      try require(scene.ports.file.isEmpty && scene.ports.readAhead.isIdle, "something is left of the file")
      try require(!scene.kernel.stagingExists && !scene.memory.ledger.isOpen, "staging is left")
      try require(scene.ports.processes.allSatisfy { !$0.isRegistered }, "it is still registered")
    }
  }

  @Test("reference 18: a swap-in that is ended early loses nothing, and the next passes over what is there")
  func swapInEndedEarly() throws {
    try Scene.play([.init(pages: 12)], contents: Self.full) { scene in
      for steps in 0..<8 {
        try scene.enable()
        try scene.out()
        var job = DisableJob(memory: scene.memory)
        for _ in 0..<steps { _ = try scene.step(&job) }
        job.abort()
        try require(scene.ports.readAhead.isIdle, "buffers are kept after \(steps) steps")
        try requireEqual(scene.counts.pinnedRuns, 0, "pinned after \(steps) steps")
        if !scene.memory.ledger.isOpen { continue }
        try requireEqual(scene.read(5), 105, "page 5")
        scene.write(102, to: 2)
        try scene.disable()
        try requireEqual(scene.kernel.guest, (0..<12).map(Self.full), "the guest's pages after \(steps) steps")
      }
    }
  }

  // MARK: Trimming

  @Test("reference 19: trim drops zero pages and unchanged ones, in steps, until all are traversed")
  func trim() throws {
    let zero = { (page: Int) -> Bool in page % 3 == 0 }
    try Scene.play([.init(pages: 17_000)], contents: { zero($0) ? 0 : UInt64($0) }) { scene in
      try scene.enable()
      var job = TrimJob(memory: scene.memory)
      try require(try scene.step(&job), "one step is not all")
      try requireEqual(
        job.zeroPages, (0..<TrimJob<SimulatedPorts>.pagesPerStep).filter(zero).count, "zero pages of the first step")
      try requireEqual(job.examinedPages, 1 << 14, "pages that the first step has looked at")
      try requireEqual(try scene.finish(&job), 5667, "trimmed")
      try requireEqual([scene.counts.staged, scene.counts.file], [11_333, 0], "staged, in the file")
      try scene.out()
      for page in 0..<4 { _ = scene.read(page) }
      scene.write(0, to: 1)
      scene.write(9, to: 4)
      try requireEqual(try scene.enable(), 5, "moved again")
      let trimmed = try scene.trim()  // 0 and 3 were zero, 1 has become so; 2 is as it was, 4 is not
      try requireEqual([trimmed.zero, trimmed.unchanged], [3, 1], "zero, unchanged")
      try requireEqual([scene.counts.staged, scene.counts.file], [1, 11_331], "staged, in the file")
      try requireEqual((0..<5).map { scene.read($0) }, [0, 0, 2, 0, 9], "the pages")
    }
  }

  // MARK: Metrics and controller

  @Test("reference 20: metrics tell where pages are and how faults were served, since the last move")
  func metrics() throws {
    try Scene.play([.init(pages: 8)], contents: { $0 < 6 ? 100 + UInt64($0) : nil }) { scene in
      try scene.enable()
      for page in [0, 6, 0] { _ = scene.read(page) }
      try scene.out()
      for page in [1, 2, 7] { _ = scene.read(page) }
      let faults = scene.counts.faults
      try requireEqual([faults.copiedFromStaging, faults.copiedFromFile, faults.zeroed], [1, 2, 2], "faults")
      try requireEqual([scene.counts.staged, scene.counts.file], [0, 3], "staged, in the file")
      try requireEqual(try scene.enable(), 5, "moved")
      try requireEqual(scene.counts.faults, FaultCounters(), "faults since")
      try requireEqual([scene.counts.staged, scene.counts.file], [5, 3], "staged, in the file, after a move")
      try scene.disable()
      let (counts, none) = (scene.counts, FaultCounters())
      try require(counts.allReturned && counts.releasable == 0 && counts.faults == none, "disable ends all counts")
    }
  }

  @Test("reference 22: child processes see the same pages, also one that comes late; a dead one stands in nobody's way")
  func childProcesses() throws {
    try Scene.play([.init(pages: 6)], processes: 3, joined: 2, contents: Self.full) { scene in
      try scene.enable()
      try requireEqual(scene.read(1, by: 1), 101, "page 1 of the child")
      try require(try scene.memory.add(scene.kernel.processes[2]), "a late child is taken in")
      scene.write(7, to: 2, by: 2)
      try requireEqual((0...2).map { scene.read(2, by: $0) }, [7, 7, 7], "page 2 of all")
      scene.remove(3..<4, by: 2)
      try requireEqual(scene.read(3, by: 0), 0, "page 3, which a child has removed")
      scene.kill(1)
      try requireEqual(try scene.enable(), 3, "moved again")
      try scene.out()
      try requireEqual(scene.read(2, by: 2), 7, "page 2 of the late child")
      try scene.disable()
      try requireEqual(scene.kernel.guest, [100, 101, 7, 0, 104, 105], "the guest's pages")
    }
  }
}
