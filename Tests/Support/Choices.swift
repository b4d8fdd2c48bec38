/// A small generator of 64-bit numbers whose whole state is one word (Steele, Lea, Flood: "Fast splittable pseudorandom
/// number generators", OOPSLA 2014).
package struct SplitMix64: RandomNumberGenerator, Sendable {
  private var state: UInt64

  package init(seed: UInt64) { state = seed }

  package mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var mixed = state
    mixed = (mixed ^ mixed >> 30) &* 0xbf58_476d_1ce4_e5b9
    mixed = (mixed ^ mixed >> 27) &* 0x94d0_49bb_1331_11eb
    return mixed ^ mixed >> 31
  }
}

/// The stream of choices that generators draw from. Each choice is recorded; a recording can be edited and replayed, so
/// everything that is built from choices shrinks: fewer choices, lower values, and 0 where the recording has ended.
package struct Choices {
  package private(set) var recording: [UInt64] = []
  package private(set) var notes: [String] = []
  private var random: SplitMix64
  private let replayed: [UInt64]?
  private let keepsNotes: Bool

  package init(seed: UInt64) {
    random = SplitMix64(seed: seed)
    replayed = nil
    keepsNotes = false
  }

  package init(replaying recording: [UInt64], keepsNotes: Bool = false) {
    random = SplitMix64(seed: 0)
    replayed = recording
    self.keepsNotes = keepsNotes
  }

  /// A number from 0 to `limit`, both included.
  package mutating func number(upTo limit: UInt64) -> UInt64 {
    let value: UInt64
    if let replayed {
      value = recording.count < replayed.count ? min(replayed[recording.count], limit) : 0
    } else {
      value = limit == .max ? random.next() : random.next(upperBound: limit + 1)
    }
    recording.append(value)
    return value
  }

  /// Shrinks towards the lower bound.
  package mutating func int(in range: ClosedRange<Int>) -> Int {
    range.lowerBound + Int(number(upTo: UInt64(range.upperBound - range.lowerBound)))
  }

  package mutating func int(below bound: Int) -> Int { int(in: 0...(bound - 1)) }

  /// True once in so many times; shrinks towards false.
  package mutating func chance(oneIn count: Int) -> Bool { int(below: count) == count - 1 }

  /// Shrinks towards the first.
  package mutating func element<Element>(of elements: [Element]) -> Element { elements[int(below: elements.count)] }

  /// A half-open range within `0..<bound`, perhaps empty; shrinks towards short and low.
  package mutating func range(below bound: Int, longest: Int = .max) -> Range<Int> {
    let start = int(in: 0...bound)
    return start..<(start + int(in: 0...min(longest, bound - start)))
  }

  /// Runs `body` a random number of times, `limit` at most. Every round begins with a choice of its own whether
  /// there is one, so that a round is deleted by deleting its part of the recording.
  package mutating func rounds(upTo limit: Int, _ body: (inout Choices) throws -> Void) rethrows {
    for _ in 0..<limit {
      guard int(below: max(2, limit)) > 0 else { return }
      try body(&self)
    }
  }

  package mutating func list<Element>(upTo limit: Int, _ element: (inout Choices) -> Element) -> [Element] {
    var elements: [Element] = []
    rounds(upTo: limit) { elements.append(element(&$0)) }
    return elements
  }

  /// Tells a step of the case; the text is made only for the shrunk case that is printed.
  package mutating func note(_ text: @autoclosure () -> String) {
    if keepsNotes { notes.append(text()) }
  }
}
