/// Looks into the text of a JSON object without decoding it: a value that is only repeated needs no meaning, and costs one
/// walk over its bytes however deep it is nested.
struct JSONText {
  private let bytes: [UInt8]
  private var position = 0

  /// The text of a member of the outermost object, the last one of that name; nil where there is none, or the text is
  /// not an object.
  static func member(_ name: String, of bytes: [UInt8]) -> ArraySlice<UInt8>? {
    var text = JSONText(bytes)
    return text.find(Array(name.utf8)[...])
  }

  /// Whether it is JSON, however large its exponents are, which no decoder takes.
  static func isValue(_ text: ArraySlice<UInt8>) -> Bool {
    var shortened: [UInt8] = []
    var (isString, isEscaped, isExponent) = (false, false, false)
    for byte in text {
      let isDigit = (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
      if isExponent && isDigit && shortened.last == UInt8(ascii: "1") { continue }
      shortened.append(isExponent && isDigit ? UInt8(ascii: "1") : byte)
      if isString {
        isString = isEscaped || byte != UInt8(ascii: "\"")
        isEscaped = !isEscaped && byte == UInt8(ascii: "\\")
      } else {
        isString = byte == UInt8(ascii: "\"")
        let isSign = byte == UInt8(ascii: "+") || byte == UInt8(ascii: "-")
        isExponent = byte | 0x20 == UInt8(ascii: "e") || isExponent && (isDigit || isSign)
      }
    }
    return JSONValue.parse(shortened) != nil
  }

  private init(_ bytes: [UInt8]) { self.bytes = bytes }

  private mutating func find(_ name: ArraySlice<UInt8>) -> ArraySlice<UInt8>? {
    var found: ArraySlice<UInt8>?
    guard take("{") else { return nil }
    if take("}") { return nil }
    while true {
      skipSpace()
      guard let key = takeString(), take(":") else { return nil }
      skipSpace()
      guard let value = takeValue() else { return nil }
      if key.dropFirst().dropLast() == name { found = value }
      if take("}") { return found }
      guard take(",") else { return nil }
    }
  }

  private mutating func takeValue() -> ArraySlice<UInt8>? {
    let start = position
    var depth = 0
    while position < bytes.count {
      switch bytes[position] {
      case UInt8(ascii: "\""):
        guard takeString() != nil else { return nil }
        if depth == 0 { return bytes[start..<position] }
        continue
      case UInt8(ascii: "{"), UInt8(ascii: "["): depth += 1
      case UInt8(ascii: "}"), UInt8(ascii: "]"):
        if depth == 0 { return start < position ? bytes[start..<position] : nil }
        depth -= 1
        if depth == 0 {
          position += 1
          return bytes[start..<position]
        }
      case UInt8(ascii: ","), 0x20, 0x09, 0x0A, 0x0D: if depth == 0 { return bytes[start..<position] }
      default: break
      }
      position += 1
    }
    return nil
  }

  private mutating func takeString() -> ArraySlice<UInt8>? {
    guard position < bytes.count, bytes[position] == UInt8(ascii: "\"") else { return nil }
    let start = position
    position += 1
    while position < bytes.count {
      let byte = bytes[position]
      position += byte == UInt8(ascii: "\\") ? 2 : 1
      if byte == UInt8(ascii: "\"") { return bytes[start..<position] }
    }
    return nil
  }

  private mutating func take(_ character: Unicode.Scalar) -> Bool {
    skipSpace()
    guard position < bytes.count, bytes[position] == UInt8(ascii: character) else { return false }
    position += 1
    return true
  }

  private mutating func skipSpace() {
    while position < bytes.count, [0x20, 0x09, 0x0A, 0x0D].contains(bytes[position]) { position += 1 }
  }
}
