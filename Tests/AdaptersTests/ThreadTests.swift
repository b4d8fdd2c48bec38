import Glibc
import Synchronization
import Testing

@testable import Adapters

private final class Flag: Sendable {
  private let value = Atomic(false)
  var isSet: Bool { value.load(ordering: .acquiring) }
  func set() { value.store(true, ordering: .releasing) }
}

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

  @Test("a helper works at the same time, but while faults come: then who asks does all")
  func helper() {
    let helper = HelperThread()
    /// Whether the second half began before the first one had ended.
    func isShared(_ patienceInLooks: Int) -> Bool {
      let hasBegun = Flag()
      let (saw, _) = helper.both { () -> Bool in
        for _ in 0..<patienceInLooks where !hasBegun.isSet { usleep(1000) }
        return hasBegun.isSet
      } _: {
        hasBegun.set()
      }
      #expect(hasBegun.isSet)
      return saw
    }
    let longPatience = 30_000
    #expect(isShared(longPatience))
    helper.activity.note()
    #expect(!isShared(20))
    #expect(isShared(longPatience), "the faults have ended")
    helper.end()
    #expect(isShared(longPatience), "the next work starts the thread anew")
    helper.end()
  }
}
