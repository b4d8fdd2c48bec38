/// A set of small integers (pages or slots) as a bit vector that is searched word by word.
///
/// Memory: one bit per possible member. Range operations touch each 64-bit word once.
package struct PageBitmap: Sendable {
  /// Members lie in `0..<capacity`.
  package let capacity: Int
  /// How many members there are.
  package private(set) var count = 0
  private var words: [UInt64]

  package init(capacity: Int) {
    precondition(capacity >= 0, "a bitmap cannot have a negative capacity")
    self.capacity = capacity
    words = [UInt64](repeating: 0, count: (capacity + 63) >> 6)
  }

  package func contains(_ member: Int) -> Bool { words[member >> 6] >> UInt64(member & 63) & 1 == 1 }

  /// - Returns: whether it was not a member before.
  @discardableResult
  package mutating func insert(_ member: Int) -> Bool {
    precondition(member < capacity, "a member beyond the bitmap's capacity")
    let bit: UInt64 = 1 << UInt64(member & 63)
    guard words[member >> 6] & bit == 0 else { return false }
    words[member >> 6] |= bit
    count += 1
    return true
  }

  /// - Returns: whether it was a member before.
  @discardableResult
  package mutating func remove(_ member: Int) -> Bool {
    let bit: UInt64 = 1 << UInt64(member & 63)
    guard words[member >> 6] & bit != 0 else { return false }
    words[member >> 6] &= ~bit
    count -= 1
    return true
  }

  package mutating func insert(_ range: Range<Int>) {
    precondition(range.upperBound <= capacity, "a range beyond the bitmap's capacity")
    Self.forEachWord(of: range) { index, mask in
      count += (mask & ~words[index]).nonzeroBitCount
      words[index] |= mask
    }
  }

  package mutating func remove(_ range: Range<Int>) {
    precondition(range.upperBound <= capacity, "a range beyond the bitmap's capacity")
    Self.forEachWord(of: range) { index, mask in
      count -= (mask & words[index]).nonzeroBitCount
      words[index] &= ~mask
    }
  }

  package mutating func removeAll() {
    for index in words.indices { words[index] = 0 }
    count = 0
  }

  /// The first member at or behind `start`.
  package func nextMember(from start: Int) -> Int? { next(from: start, flip: 0) }

  /// The first place at or behind `start` that is not a member.
  package func nextGap(from start: Int) -> Int? { next(from: start, flip: ~0) }

  /// The last member before `end`.
  package func lastMember(before end: Int) -> Int? {
    guard end > 0 else { return nil }
    var index = (min(end, capacity) - 1) >> 6
    guard index >= 0 else { return nil }
    var word = words[index] & (~0 >> UInt64(63 - ((min(end, capacity) - 1) & 63)))
    while word == 0 {
      guard index > 0 else { return nil }
      index -= 1
      word = words[index]
    }
    return (index << 6) + 63 - word.leadingZeroBitCount
  }

  /// The first run of consecutive members at or behind `start` that begins before `end`, cut at `end` and at `limit` members.
  package func nextRun(from start: Int, before end: Int, limit: Int = .max) -> Range<Int>? {
    guard start < end, limit > 0, let first = nextMember(from: start), first < end else { return nil }
    let last = Swift.min(nextGap(from: first) ?? capacity, end)
    return first..<(last - first > limit ? first + limit : last)
  }

  private func next(from start: Int, flip: UInt64) -> Int? {
    guard start < capacity else { return nil }
    var index = start >> 6
    var word = (words[index] ^ flip) & (~0 << UInt64(start & 63))
    while word == 0 {
      index += 1
      guard index < words.count else { return nil }
      word = words[index] ^ flip
    }
    let found = (index << 6) + word.trailingZeroBitCount
    return found < capacity ? found : nil
  }

  private static func forEachWord(of range: Range<Int>, _ body: (_ index: Int, _ mask: UInt64) -> Void) {
    guard !range.isEmpty else { return }
    let first = range.lowerBound >> 6
    let last = (range.upperBound - 1) >> 6
    for index in first...last {
      var mask: UInt64 = ~0
      if index == first { mask &= ~0 << UInt64(range.lowerBound & 63) }
      if index == last { mask &= ~0 >> UInt64(63 - ((range.upperBound - 1) & 63)) }
      body(index, mask)
    }
  }
}
