extension FixedWidthInteger {
  /// As it lies in this machine's memory.
  // Safety: an integer's bytes are all there is to it.
  var bytes: [UInt8] { withUnsafeBytes(of: self) { Array($0) } }
}

extension [UInt8] {
  /// - Precondition: it lies within the bytes.
  func number<Number: FixedWidthInteger>(_ type: Number.Type = Number.self, at offset: Int) -> Number {
    precondition(offset >= 0 && offset + MemoryLayout<Number>.size <= count, "a number beyond the bytes")
    // Safety: its bounds were looked at.
    return withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: Number.self) }
  }

  /// All that are there whole.
  func numbers<Number: FixedWidthInteger>(_ type: Number.Type) -> [Number] {
    let size = MemoryLayout<Number>.size
    return (0..<count / size).map { number(at: $0 * size) }
  }
}
