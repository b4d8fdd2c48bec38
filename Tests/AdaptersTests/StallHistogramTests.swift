import Testing

@testable import Adapters

@Suite struct StallHistogramTests {
  @Test("every time falls into a bucket that is at most an eighth too long")
  func buckets() {
    for shift in 0..<63 {
      for offset: UInt64 in [0, 1, 2, 5] {
        let time = UInt64(1) << UInt64(shift) + offset << UInt64(max(0, shift - 4))
        let bucket = StallHistogram.bucket(of: time)
        let bound = StallHistogram.upperBound(of: bucket)
        #expect(bucket < StallHistogram.buckets && bound >= time && bound - time <= time / 8)
        #expect(StallHistogram.bucket(of: bound) == bucket && StallHistogram.bucket(of: bound + 1) == bucket + 1)
      }
    }
  }

  @Test("what one has to wait counts moments, not writes")
  func waits() {
    var histogram = StallHistogram()
    #expect(histogram.wait(exceededBy: 0.001, of: 1_000_000) == 0)
    histogram.add(1_000_000, in: StallHistogram.bucket(of: 1))
    // Of ten seconds one is a single stall: at a thousandth of the moments one has all but 10 ms of it before oneself.
    histogram.add(1, in: StallHistogram.bucket(of: 1_000_000_000))
    let length = StallHistogram.upperBound(of: StallHistogram.bucket(of: 1_000_000_000))
    #expect(histogram.wait(exceededBy: 0.001, of: 10_000_000_000) == length - 10_000_000)
    #expect(histogram.wait(exceededBy: 0.5, of: 10_000_000_000) == 0)
  }
}
