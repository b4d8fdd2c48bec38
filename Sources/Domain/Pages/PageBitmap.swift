/// A set of small integers (pages or slots) as a bit vector that is searched word by word.
///
/// Memory: one bit per possible member, in leaves of 4 KiB that are made when their first member comes, so that a large and
/// sparse set is small. Range operations touch each 64-bit word once.
package struct PageBitmap: Sendable {
  /// Members lie in `0..<capacity`.
  package let capacity: Int
  /// How many members there are.
  package private(set) var count = 0
  /// Empty where there are no members and never were.
  private var leaves: [[UInt64]]

  private static let leafWords = 512
  private static let leafShift = 15

  package init(capacity: Int) {
    precondition(capacity >= 0, "a bitmap cannot have a negative capacity")
    self.capacity = capacity
    leaves = [[UInt64]](repeating: [], count: (capacity + (1 << Self.leafShift) - 1) >> Self.leafShift)
  }

  package func contains(_ member: Int) -> Bool { word(member >> 6) >> UInt64(member & 63) & 1 == 1 }

  /// - Returns: whether it was not a member before.
  @discardableResult
  package mutating func insert(_ member: Int) -> Bool {
    precondition(member < capacity, "a member beyond the bitmap's capacity")
    guard !contains(member) else { return false }
    makeLeaf(member >> Self.leafShift)
    leaves[member >> Self.leafShift][member >> 6 & (Self.leafWords - 1)] |= 1 << UInt64(member & 63)
    count += 1
    return true
  }

  /// - Returns: whether it was a member before.
  @discardableResult
  package mutating func remove(_ member: Int) -> Bool {
    guard contains(member) else { return false }
    leaves[member >> Self.leafShift][member >> 6 & (Self.leafWords - 1)] &= ~(1 << UInt64(member & 63))
    count -= 1
    return true
  }

  package mutating func insert(_ range: Range<Int>) {
    precondition(range.upperBound <= capacity, "a range beyond the bitmap's capacity")
    Self.forEachWord(of: range) { leaf, index, mask in
      makeLeaf(leaf)
      count += (mask & ~leaves[leaf][index]).nonzeroBitCount
      leaves[leaf][index] |= mask
    }
  }

  package mutating func remove(_ range: Range<Int>) {
    precondition(range.upperBound <= capacity, "a range beyond the bitmap's capacity")
    Self.forEachWord(of: range) { leaf, index, mask in
      guard !leaves[leaf].isEmpty else { return }
      count -= (mask & leaves[leaf][index]).nonzeroBitCount
      leaves[leaf][index] &= ~mask
    }
  }

  /// The leaves stay: what is filled and emptied again and again, by faults, allocates once.
  package mutating func removeAll() {
    guard count > 0 else { return }
    for leaf in leaves.indices { for word in leaves[leaf].indices { leaves[leaf][word] = 0 } }
    count = 0
  }

  /// The first member at or behind `start`.
  package func nextMember(from start: Int) -> Int? { next(from: start, flip: 0) }

  /// The first place at or behind `start` that is not a member.
  package func nextGap(from start: Int) -> Int? { next(from: start, flip: ~0) }

  /// The last member before `end`.
  package func lastMember(before end: Int) -> Int? {
    let last = min(end, capacity) - 1
    guard last >= 0 else { return nil }
    var mask: UInt64 = ~0 >> UInt64(63 - (last & 63))
    var index = last >> 6
    while index >= 0 {
      let word = word(index) & mask
      if word != 0 { return (index << 6) + 63 - word.leadingZeroBitCount }
      mask = ~0
      // Over a leaf that is not there in one step.
      index = leaves[index / Self.leafWords].isEmpty ? index / Self.leafWords * Self.leafWords - 1 : index - 1
    }
    return nil
  }

  /// The first run of consecutive members at or behind `start` that begins before `end`, cut at `end` and at `limit` members.
  package func nextRun(from start: Int, before end: Int, limit: Int = .max) -> Range<Int>? {
    guard start < end, limit > 0, let first = nextMember(from: start), first < end else { return nil }
    let last = Swift.min(nextGap(from: first) ?? capacity, end)
    return first..<(last - first > limit ? first + limit : last)
  }

  /// The members among the 64 places from `start` on: it is bit 0.
  package func word(from start: Int) -> UInt64 {
    let (index, shift) = (start >> 6, UInt64(start & 63))
    let low = start < capacity ? word(index) >> shift : 0
    return shift == 0 || (index + 1) << 6 >= capacity ? low : low | word(index + 1) << (64 - shift)
  }

  private func next(from start: Int, flip: UInt64) -> Int? {
    guard start < capacity else { return nil }
    var mask: UInt64 = ~0 << UInt64(start & 63)
    var index = start >> 6 & (Self.leafWords - 1)
    for leaf in (start >> Self.leafShift)..<leaves.count {
      if !leaves[leaf].isEmpty {
        while index < Self.leafWords {
          let word = (leaves[leaf][index] ^ flip) & mask
          if word != 0 { return found(leaf, index, word) }
          mask = ~0
          index += 1
        }
      } else if flip != 0 {
        return found(leaf, index, mask)
      }
      (index, mask) = (0, ~0)
    }
    return nil
  }

  private func found(_ leaf: Int, _ index: Int, _ word: UInt64) -> Int? {
    let place = (leaf << Self.leafShift) + (index << 6) + word.trailingZeroBitCount
    return place < capacity ? place : nil
  }

  private func word(_ number: Int) -> UInt64 {
    let leaf = leaves[number / Self.leafWords]
    return leaf.isEmpty ? 0 : leaf[number & (Self.leafWords - 1)]
  }

  private mutating func makeLeaf(_ leaf: Int) {
    if leaves[leaf].isEmpty { leaves[leaf] = [UInt64](repeating: 0, count: Self.leafWords) }
  }

  private static func forEachWord(of range: Range<Int>, _ body: (_ leaf: Int, _ index: Int, _ mask: UInt64) -> Void) {
    guard !range.isEmpty else { return }
    let first = range.lowerBound >> 6
    let last = (range.upperBound - 1) >> 6
    for word in first...last {
      var mask: UInt64 = ~0
      if word == first { mask &= ~0 << UInt64(range.lowerBound & 63) }
      if word == last { mask &= ~0 >> UInt64(63 - ((range.upperBound - 1) & 63)) }
      body(word / leafWords, word & (leafWords - 1), mask)
    }
  }
}
