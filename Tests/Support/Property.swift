import Glibc

/// How many cases properties try, and where their randomness begins.
package struct PropertySettings: Sendable {
  package var seed: UInt64
  /// nil leaves the number to each property.
  package var cases: Int?

  package init(seed: UInt64, cases: Int? = nil) {
    self.seed = seed
    self.cases = cases
  }

  /// `SWAP_MONITOR_SEED` (decimal or 0x…) and `SWAP_MONITOR_CASES`; without them a fresh seed at every run.
  package static let environment: PropertySettings = {
    let seed = variable("SWAP_MONITOR_SEED").flatMap(parse) ?? UInt64.random(in: .min ... .max)
    // Said beforehand too: a trap in the code under test ends the process before the harness can speak.
    say("properties run with SWAP_MONITOR_SEED=\(seed)\n")
    return PropertySettings(seed: seed, cases: variable("SWAP_MONITOR_CASES").flatMap { Int($0) })
  }()

  private static func variable(_ name: String) -> String? { getenv(name).map { String(cString: $0) } }

  private static func parse(_ text: String) -> UInt64? {
    text.hasPrefix("0x") ? UInt64(text.dropFirst(2), radix: 16) : UInt64(text)
  }

  private static func say(_ text: String) {
    _ = Array(text.utf8).withUnsafeBytes { write(STDERR_FILENO, $0.baseAddress, $0.count) }
  }
}

/// A property that does not hold, with the smallest case found that shows it.
package struct PropertyFailure: Error, CustomStringConvertible {
  package let name: String
  /// Repeats the first failing case: as seed of a run with one case.
  package let seed: UInt64
  /// The shrunk case's choices, and what it noted while it ran.
  package let recording: [UInt64]
  package let notes: [String]
  package let reason: String

  package var description: String {
    let steps = notes.map { "\n    \($0)" }.joined()
    return "property \"\(name)\" does not hold: \(reason)\n  shrunk to \(recording.count) choices:\(steps)"
      + "\n  repeat: SWAP_MONITOR_SEED=\(seed) SWAP_MONITOR_CASES=1"
  }
}

/// What a property throws when an expectation fails.
package struct Mismatch: Error, CustomStringConvertible {
  package let description: String

  package init(_ description: String) { self.description = description }
}

/// Fails the case that runs; `#expect` would report each of the shrinker's hundreds of replays.
package func require(_ condition: Bool, _ message: @autoclosure () -> String, line: Int = #line) throws(Mismatch) {
  guard !condition else { return }
  throw Mismatch("\(message()) (line \(line))")
}

package func requireEqual<Value: Equatable>(
  _ actual: Value, _ expected: Value, _ what: @autoclosure () -> String, line: Int = #line
) throws(Mismatch) {
  guard actual != expected else { return }
  throw Mismatch("\(what()): \(actual), expected \(expected) (line \(line))")
}

/// The value, or the case fails.
package func unwrap<Value>(_ value: Value?, _ what: @autoclosure () -> String, line: Int = #line) throws(Mismatch)
  -> Value
{
  guard let value else { throw Mismatch("\(what()): none (line \(line))") }
  return value
}

/// Runs `body` with many streams of choices. At the first failure the stream's recording is shrunk.
package func checkProperty(
  _ name: String, cases: Int = 100, settings: PropertySettings = .environment, _ body: (inout Choices) throws -> Void
) throws(PropertyFailure) {
  // At least one: a property that tries nothing would seem to hold.
  for number in 0..<max(1, settings.cases ?? cases) {
    let seed = settings.seed &+ UInt64(number)
    var choices = Choices(seed: seed)
    do { try body(&choices) } catch {
      let smallest = Shrinker(smallest: choices.recording).shrink { candidate in
        var replayed = Choices(replaying: candidate)
        do { try body(&replayed) } catch { return replayed.recording }
        return nil
      }
      var told = Choices(replaying: smallest, keepsNotes: true)
      // The first error stands where the case does not fail again: then the code under test is not deterministic.
      var reason = "\(error), and not when repeated"
      do { try body(&told) } catch { reason = "\(error)" }
      throw PropertyFailure(name: name, seed: seed, recording: smallest, notes: told.notes, reason: reason)
    }
  }
}

/// Makes a failing recording smaller (shorter, or as long with lower values) as long as it fails.
private struct Shrinker {
  var smallest: [UInt64]
  /// Bounds the time that a failure takes.
  var replaysLeft = 3000

  /// - Parameter replay: runs a recording; returns what was drawn of it if it fails, nil if it passes.
  consuming func shrink(_ replay: ([UInt64]) -> [UInt64]?) -> [UInt64] {
    var before: [UInt64]
    repeat {
      before = smallest
      deleteChunks(replay)
      lowerValues(replay)
    } while smallest != before && replaysLeft > 0
    return smallest
  }

  private mutating func deleteChunks(_ replay: ([UInt64]) -> [UInt64]?) {
    var length = smallest.count
    while length > 0 {
      var end = smallest.count
      while end >= length {
        var candidate = smallest
        candidate.removeSubrange(end - length..<end)
        // Where it fails, the recording is another; what now stands there is tried next.
        end = attempt(candidate, replay) ? min(end, smallest.count) : end - max(1, length / 2)
      }
      length /= 2
    }
  }

  private mutating func lowerValues(_ replay: ([UInt64]) -> [UInt64]?) {
    var index = 0
    while index < smallest.count {
      // Bisection: `passing` and below is taken to pass, the recording's own value fails.
      var passing: UInt64?
      while index < smallest.count, smallest[index] > (passing.map { $0 + 1 } ?? 0) {
        let value = smallest[index]
        let lower = passing.map { $0 + (value - $0) / 2 } ?? 0
        var candidate = smallest
        candidate[index] = lower
        if !attempt(candidate, replay) { passing = lower }
      }
      index += 1
    }
  }

  private mutating func attempt(_ candidate: [UInt64], _ replay: ([UInt64]) -> [UInt64]?) -> Bool {
    guard replaysLeft > 0 else { return false }
    replaysLeft -= 1
    guard let failing = replay(candidate) else { return false }
    let isSmaller =
      failing.count < smallest.count || failing.count == smallest.count && failing.lexicographicallyPrecedes(smallest)
    if isSmaller { smallest = failing }
    return isSmaller
  }
}
