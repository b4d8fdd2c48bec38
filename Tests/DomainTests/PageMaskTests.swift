import Domain
import TestSupport
import Testing

@Suite struct PageMaskTests {
  @Test("a mask hands out what was put in, as runs in their order")
  func runs() throws {
    try checkProperty("a mask is a set of pages", cases: 300) { choices in
      let start = PageIndex(choices.int(in: 0...200))
      var mask = PageMask(start: start)
      var members: Set<PageIndex> = []
      choices.rounds(upTo: 6) { choices in
        let range = choices.range(below: PageMask.capacity)
        choices.note("insert \(range)")
        mask.insert((start + range.lowerBound)..<(start + range.upperBound))
        members.formUnion(range.map { start + $0 })
      }
      var runs: [PageRange] = []
      while let run = mask.popRun() { runs.append(run) }
      try requireEqual(runs.flatMap { Array($0) }, members.sorted(), "pages")
      for (run, next) in zip(runs, runs.dropFirst()) {
        try require(run.upperBound < next.lowerBound, "\(run) and \(next) are one run")
      }
      try requireEqual(mask.bits, 0, "what is left")
    }
  }

  @Test("all 64 pages are one run")
  func full() {
    var mask = PageMask(start: PageIndex(7), bits: ~0)
    #expect(mask.popRun() == PageIndex(7)..<PageIndex(71))
    #expect(mask.popRun() == nil)
  }
}
