/// A 128-bit keyed checksum of one page's content.
package struct PageChecksum: Hashable, Sendable {
  package var low: UInt64
  package var high: UInt64

  package init(low: UInt64, high: UInt64) {
    self.low = low
    self.high = high
  }
}

/// Computes page checksums that decide two things: whether what came back from disk is what was written, and whether a
/// staged page equals what the swap file still holds.
///
/// The construction is the NH family (Black, Halevi, Krawczyk, Krovetz, Rogaway: "UMAC", CRYPTO 1999) over 64-bit words,
/// twice with a Toeplitz shift of the key, then a multilinear hash of the 256 bits down to 128. For two different pages
/// that were chosen without knowing the key, each half collides with a chance of about 2^-64, independently, so both
/// with about 2^-127. The key is drawn from the kernel's random source, per tenant, and never leaves the daemon.
package struct PageHasher: Sendable {
  private let words: Int
  private let key: [UInt64]

  /// How many random words a key needs for pages of this size.
  package static func keyWords(pageBytes: Int) -> Int { pageBytes / 8 + 2 + 20 }

  /// - Parameter key: exactly `keyWords(pageBytes:)` words of uniform randomness.
  package init(pageBytes: Int, key: [UInt64]) {
    precondition(key.count == Self.keyWords(pageBytes: pageBytes), "a page hasher's key has a fixed length")
    words = pageBytes / 8
    self.key = key
  }

  package func checksum(of page: Span<UInt64>) -> PageChecksum {
    precondition(page.count == words, "a checksum covers exactly one page")
    var first: UInt128 = 0
    var second: UInt128 = 0
    let key = key.span
    var index = 0
    while index < words {
      let left = page[index]
      let right = page[index + 1]
      let a = (left &+ key[index]).multipliedFullWidth(by: right &+ key[index + 1])
      let b = (left &+ key[index + 2]).multipliedFullWidth(by: right &+ key[index + 3])
      first &+= UInt128(a.high) << 64 | UInt128(a.low)
      second &+= UInt128(b.high) << 64 | UInt128(b.low)
      index += 2
    }
    return PageChecksum(low: fold(first, second, from: words + 2), high: fold(first, second, from: words + 12))
  }

  /// Multilinear hashing of four 64-bit words with 128-bit coefficients (Lemire, Kaser: "Strongly universal string
  /// hashing is fast", 2014); the upper half of the sum is the hash.
  private func fold(_ first: UInt128, _ second: UInt128, from start: Int) -> UInt64 {
    func coefficient(_ number: Int) -> UInt128 {
      UInt128(key[start + 2 * number]) << 64 | UInt128(key[start + 2 * number + 1])
    }
    var sum = coefficient(0)
    sum &+= coefficient(1) &* UInt128(UInt64(truncatingIfNeeded: first))
    sum &+= coefficient(2) &* UInt128(UInt64(truncatingIfNeeded: first >> 64))
    sum &+= coefficient(3) &* UInt128(UInt64(truncatingIfNeeded: second))
    sum &+= coefficient(4) &* UInt128(UInt64(truncatingIfNeeded: second >> 64))
    return UInt64(truncatingIfNeeded: sum >> 64)
  }
}
