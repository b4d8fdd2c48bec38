import Domain
import TestSupport
import Testing

@Suite struct ChunkSizerTests {
  @Test("chunks are the largest while nobody waits")
  func quiet() {
    var sizer = ChunkSizer(largest: 512)
    let sizes = (0..<5).map { _ in sizer.next(faultCount: 0) }
    #expect(sizes == [512, 512, 512, 512, 512])
  }

  @Test("a fault makes the next chunk the smallest, and quiet doubles it up to the largest")
  func faultShrinksAndQuietGrows() {
    var sizer = ChunkSizer(largest: 500, smallest: 32)
    let sizes = [1, 2, 2, 2, 2, 2, 2, 7, 7].map { sizer.next(faultCount: $0) }
    #expect(sizes == [32, 32, 64, 128, 256, 500, 500, 32, 64])
  }

  @Test("chunks stay between the smallest and the largest, whatever these are")
  func bounded() throws {
    try checkProperty("chunks are bounded", cases: 200) { choices in
      let (largest, smallest) = (choices.int(in: -1...1100), choices.int(in: -1...1100))
      var sizer = ChunkSizer(largest: largest, smallest: smallest)
      choices.note("largest \(largest), smallest \(smallest)")
      try requireEqual(sizer.largest, max(1, largest), "largest")
      try requireEqual(sizer.smallest, min(max(1, smallest), max(1, largest)), "smallest")
      var (faults, before) = (0, sizer.largest)
      try choices.rounds(upTo: 30) { choices in
        let arrived = choices.int(in: 0...2)
        faults += arrived
        let expected = arrived > 0 ? sizer.smallest : min(sizer.largest, before * 2)
        before = sizer.next(faultCount: faults)
        try requireEqual(before, expected, "chunk after \(arrived) faults")
      }
    }
  }
}

@Suite struct PrefetchBudgetTests {
  @Test(
    "the budget is the smaller of 16 MiB and the limit on locked memory",
    arguments: [
      (nil, 16 << 20), (0, 0), (1, 1), (8 << 20, 8 << 20), (16 << 20, 16 << 20), (16 << 20 + 1, 16 << 20),
      (.max, 16 << 20),
    ] as [(UInt64?, Int)])
  func total(limit: UInt64?, expected: Int) {
    #expect(PrefetchBudget(memoryLockLimitBytes: limit).totalBytes == expected)
  }

  @Test("what is taken is never more than the budget, and comes back whole")
  func takenAndGivenBack() throws {
    try checkProperty("the budget adds up", cases: 200) { choices in
      let limit = choices.int(in: 0...(20 << 20))
      var budget = PrefetchBudget(memoryLockLimitBytes: UInt64(limit))
      let total = min(limit, 16 << 20)
      var taken: [Int] = []
      try choices.rounds(upTo: 30) { choices in
        if choices.chance(oneIn: 3), !taken.isEmpty {
          budget.giveBack(taken.remove(at: choices.int(below: taken.count)))
        } else {
          let bytes = choices.int(in: 0...(6 << 20))
          let fits = bytes + taken.reduce(0, +) <= total
          try requireEqual(budget.take(bytes), fits, "take \(bytes) with \(taken) taken of \(total)")
          if fits { taken.append(bytes) }
        }
        try requireEqual(budget.lockedBytes, taken.reduce(0, +), "locked")
        try requireEqual(budget.freeBytes, total - taken.reduce(0, +), "free")
      }
    }
  }

  @Test("without a budget nothing is read ahead")
  func noBudget() {
    var budget = PrefetchBudget(memoryLockLimitBytes: 0)
    #expect(budget.take(1) == false)
  }
}

@Suite struct PageGeometryTests {
  @Test("the next fault is looked for in bursts alone, and not for long")
  func burstSpin() {
    var spin = BurstSpin()
    let (burst, limit) = (BurstSpin.burstNanoseconds, BurstSpin.limitNanoseconds)
    let begins = [1_000_000, 1_000_000 + burst, 1_000_000 + 2 * burst - 1].map { spin.begin(now: $0) }
    #expect(begins == [false, false, true])
    #expect(spin.goesOn(now: 1_000_000 + 2 * burst - 2 + limit) && !spin.goesOn(now: 1_000_000 + 2 * burst - 1 + limit))
  }

  @Test("powers of two are taken apart into shifts", arguments: [12, 14, 16], [0, 5, 9, 13])
  func shifts(pageShift: Int, order: Int) throws {
    let geometry = try #require(PageGeometry(pageBytes: 1 << pageShift, hugePageBytes: 1 << (pageShift + order)))
    #expect(geometry.pageShift == pageShift && geometry.pageBytes == 1 << pageShift)
    #expect(geometry.hugePageOrder == order && geometry.hugePagePages == 1 << order)
  }

  @Test(
    "sizes that the machine can't have are refused",
    arguments: [
      (0, 0), (-4096, 4096), (4095, 1 << 21), (4097, 1 << 21), (4096, 0), (4096, 2048), (4096, 3 * 4096), (4096, -4096),
      (12288, 1 << 21), (.min, .min),
    ])
  func refused(pageBytes: Int, hugePageBytes: Int) {
    #expect(PageGeometry(pageBytes: pageBytes, hugePageBytes: hugePageBytes) == nil)
  }

  @Test("bytes and pages convert, also far beyond 32 bits")
  func conversions() throws {
    let geometry = try #require(PageGeometry(pageBytes: 4096, hugePageBytes: 1 << 21))
    for pages in [0, 1, 511, 851_968, 1 << 31, 1 << 50] {
      #expect(geometry.bytes(inPages: pages) == pages * 4096)
      #expect(geometry.pages(inBytes: UInt64(pages) * 4096) == pages)
      #expect(geometry.pages(inBytes: UInt64(pages) * 4096 + 4095) == pages)
      #expect(geometry.isAligned(UInt64(pages) * 4096))
      for offset: UInt64 in [1, 2048, 4095] { #expect(!geometry.isAligned(UInt64(pages) * 4096 + offset)) }
    }
    #expect(geometry.pages(inBytes: .max) == (1 << 52) - 1)
  }
}
