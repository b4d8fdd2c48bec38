import Testing

@testable import Adapters

@Suite struct ThreadTests {
  private static var slice: String? {
    readText("/proc/thread-self/sched")?.split(separator: "\n").first { $0.hasPrefix("se.slice") }
      .flatMap { $0.split(separator: ":").last }.map { $0.filter { $0 != " " } }
  }

  @Test("a thread that asks for short slices gets them, and others keep theirs", .enabled(if: slice != nil))
  func shortSlices() throws {
    let before = Self.slice
    let asked = try Background { () -> String? in
      Thread.askForShortSlices()
      return Self.slice
    }
    #expect(asked.wait() == "100000")
    #expect(before != "100000" && Self.slice == before)
  }
}
