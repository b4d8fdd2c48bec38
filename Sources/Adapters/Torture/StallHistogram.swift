/// How often something took how long: eight steps to each doubling, so a time is told to within an eighth.
package struct StallHistogram: Sendable {
  static let buckets = 64 * 8
  private static let subBits = 3

  private var counts = [UInt64](repeating: 0, count: buckets)

  package init() {}

  mutating func add(_ count: UInt64, in bucket: Int) { counts[bucket] += count }

  static func bucket(of nanoseconds: UInt64) -> Int {
    let shift = max(0, UInt64.bitWidth - nanoseconds.leadingZeroBitCount - subBits - 1)
    return shift << subBits + Int(nanoseconds >> UInt64(shift))
  }

  /// The most that falls into a bucket.
  static func upperBound(of bucket: Int) -> UInt64 {
    let shift = max(0, bucket >> subBits - 1)
    return (UInt64(bucket - shift << subBits) + 1) << UInt64(shift) &- 1
  }

  /// What somebody has to wait who comes at a moment of his own, in all but this share of the moments.
  ///
  /// The mean over what was done would hide long stalls: nothing else is done during one.
  ///
  /// - Parameter nanoseconds: how long all that is told of took in all.
  package func wait(exceededBy share: Double, of nanoseconds: UInt64) -> UInt64 {
    let limit = share * Double(nanoseconds)
    // The time in which one has to wait longer than t: of each stall, what it has above t.
    var (count, sum) = (0.0, 0.0)
    for bucket in counts.indices.reversed() where counts[bucket] > 0 {
      let length = Double(Self.upperBound(of: bucket))
      if sum - count * length > limit { return UInt64((sum - limit) / count) }
      count += Double(counts[bucket])
      sum += Double(counts[bucket]) * length
    }
    return count > 0 && sum > limit ? UInt64((sum - limit) / count) : 0
  }
}
