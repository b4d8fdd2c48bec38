import Domain
import TestSupport
import Testing

@Suite struct PageHasherTests {
  static let pageBytes = 4096
  static let words = pageBytes / 8

  static func hasher(_ seed: UInt64, pageBytes: Int = pageBytes) -> PageHasher {
    var random = SplitMix64(seed: seed)
    return PageHasher(
      pageBytes: pageBytes, key: (0..<PageHasher.keyWords(pageBytes: pageBytes)).map { _ in random.next() })
  }

  static func randomPage(_ seed: UInt64) -> [UInt64] {
    var random = SplitMix64(seed: seed)
    return (0..<words).map { _ in random.next() }
  }

  @Test("pages of equal content have equal checksums, wherever they lie")
  func equalPages() {
    let page = Self.randomPage(1)
    let hasher = Self.hasher(2)
    let padded = [UInt64(9)] + page + [9]
    let copy = hasher.checksum(of: padded.span.extracting(1..<(Self.words + 1)))
    #expect(copy == hasher.checksum(of: page.span))
    #expect(Self.hasher(2).checksum(of: page.span) == copy, "a key, not an instance, decides")
  }

  @Test("every word counts, with its lowest, a middle and its highest bit", arguments: ["zero", "random", "ones"])
  func flippedBits(content: String) {
    var page =
      switch content {
      case "zero": [UInt64](repeating: 0, count: Self.words)
      case "ones": [UInt64](repeating: .max, count: Self.words)
      default: Self.randomPage(3)
      }
    let hasher = Self.hasher(4)
    let whole = hasher.checksum(of: page.span)
    var seen: Set<PageChecksum> = [whole]
    for word in 0..<Self.words {
      for bit: UInt64 in [0, 17, 63] {
        page[word] ^= 1 << bit
        let changed = hasher.checksum(of: page.span)
        page[word] ^= 1 << bit
        // Each half must tell by itself: together they are what makes a collision a matter of 2^-127.
        #expect(changed.low != whole.low && changed.high != whole.high, "bit \(bit) of word \(word)")
        seen.insert(changed)
      }
    }
    #expect(seen.count == 3 * Self.words + 1, "two single-bit changes collide")
  }

  @Test("changed pages have changed checksums")
  func changedPages() throws {
    try checkProperty("a changed page is told", cases: 60) { choices in
      let key = choices.number(upTo: .max)
      let hasher = Self.hasher(key)
      let page = Self.randomPage(choices.number(upTo: .max))
      var changed = page
      switch choices.int(below: 4) {
      case 0:
        let bit = choices.int(below: Self.words * 64)
        changed[bit / 64] ^= 1 << UInt64(bit % 64)
      case 1:
        changed.swapAt(choices.int(below: Self.words), choices.int(below: Self.words))
      case 2:
        // Shifted content, as a write to the wrong offset leaves it.
        let count = choices.int(below: Self.words)
        changed = Array(page[count...] + page[..<count])
      default:
        // The first sectors are new and the rest is old: a torn write.
        let count = choices.int(in: 0...8) * 64
        changed.replaceSubrange(..<count, with: Self.randomPage(key ^ 1)[..<count])
      }
      let (one, other) = (hasher.checksum(of: page.span), hasher.checksum(of: changed.span))
      try requireEqual(one == other, page == changed, "equal checksums")
    }
  }

  @Test("neighbouring words can't be exchanged")
  func exchangedNeighbours() {
    let page = Self.randomPage(5)
    let hasher = Self.hasher(6)
    let whole = hasher.checksum(of: page.span)
    for word in 0..<Self.words {
      for distance in [1, 2, 4] where word + distance < Self.words {
        var changed = page
        changed.swapAt(word, word + distance)
        #expect(hasher.checksum(of: changed.span) != whole, "words \(word) and \(word + distance)")
      }
    }
  }

  @Test("each key word counts, so that keys can't be guessed piece by piece")
  func differentKeys() {
    let page = Self.randomPage(7)
    var random = SplitMix64(seed: 8)
    var key = (0..<PageHasher.keyWords(pageBytes: Self.pageBytes)).map { _ in random.next() }
    let whole = PageHasher(pageBytes: Self.pageBytes, key: key).checksum(of: page.span)
    // The lower half of a sum's additive constant reaches the upper half, which is the hash, as a carry at most.
    let additive = [Self.words + 3, Self.words + 13]
    for index in key.indices where !additive.contains(index) {
      key[index] ^= 1 << 40
      #expect(PageHasher(pageBytes: Self.pageBytes, key: key).checksum(of: page.span) != whole, "key word \(index)")
      key[index] ^= 1 << 40
    }
  }

  @Test("the zero page's checksum depends on the key, and is not zero")
  func zeroPage() {
    let zero = [UInt64](repeating: 0, count: Self.words)
    let checksums = (0..<50).map { Self.hasher(UInt64($0)).checksum(of: zero.span) }
    #expect(Set(checksums).count == 50)
    #expect(!checksums.contains { $0.low == 0 || $0.high == 0 || $0.low == $0.high })
  }

  @Test("page sizes other than 4 KiB work", arguments: [16, 16384, 65536])
  func otherPageSizes(bytes: Int) {
    var page = [UInt64](repeating: 1, count: bytes / 8)
    let hasher = Self.hasher(9, pageBytes: bytes)
    let whole = hasher.checksum(of: page.span)
    page[page.count - 1] = 2
    #expect(hasher.checksum(of: page.span) != whole)
  }

  @Test("each bit of the checksum is set for about half of all pages")
  func bitsAreBalanced() {
    let hasher = Self.hasher(10)
    var page = [UInt64](repeating: 0, count: Self.words)
    var counts = [Int](repeating: 0, count: 128)
    let samples = 1000
    for sample in 0..<samples {
      page[sample % Self.words] &+= 1  // pages that differ as little as can be
      let checksum = hasher.checksum(of: page.span)
      for bit in 0..<64 {
        counts[bit] += Int(checksum.low >> UInt64(bit) & 1)
        counts[64 + bit] += Int(checksum.high >> UInt64(bit) & 1)
      }
    }
    // Six standard deviations (of about 16) to either side; seeds are fixed, so the outcome is too.
    let skewed = counts.indices.filter { !(405...595).contains(counts[$0]) }
    #expect(skewed.isEmpty)
  }
}
