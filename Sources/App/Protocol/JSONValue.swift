internal import Adapters
internal import FoundationEssentials

/// Any JSON value.
enum JSONValue: Codable, Equatable, Sendable {
  case null
  case bool(Bool)
  case integer(Int64)
  case unsigned(UInt64)
  case number(Double)
  case string(String)
  case array([JSONValue])
  case object([String: JSONValue])

  init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    self =
      if container.decodeNil() {
        .null
      } else {
        try attempt { .bool(try container.decode(Bool.self)) }
          ?? attempt { .integer(try container.decode(Int64.self)) }
          ?? attempt { .unsigned(try container.decode(UInt64.self)) }
          ?? attempt { .number(try container.decode(Double.self)) }
          ?? attempt { .string(try container.decode(String.self)) }
          ?? attempt { .array(try container.decode([JSONValue].self)) }
          ?? .object(try container.decode([String: JSONValue].self))
      }
  }

  func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    switch self {
    case .null: try container.encodeNil()
    case .bool(let value): try container.encode(value)
    case .integer(let value): try container.encode(value)
    case .unsigned(let value): try container.encode(value)
    case .number(let value): try container.encode(value)
    case .string(let value): try container.encode(value)
    case .array(let value): try container.encode(value)
    case .object(let value): try container.encode(value)
    }
  }

  /// A member of an object; others have none, and take none.
  subscript(key: String) -> JSONValue? {
    get { if case .object(let members) = self { members[key] } else { nil } }
    set {
      guard case .object(var members) = self else { return }
      members[key] = newValue
      self = .object(members)
    }
  }

  var text: String? { if case .string(let value) = self { value } else { nil } }
  var int: Int? { if case .integer(let value) = self { Int(value) } else { nil } }
  var elements: [JSONValue]? { if case .array(let value) = self { value } else { nil } }
  var isTrue: Bool { self == .bool(true) }

  static func int(_ value: Int) -> JSONValue { .integer(Int64(value)) }

  /// The value as one line of JSON.
  var bytes: [UInt8] {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    encoder.nonConformingFloatEncodingStrategy = .convertToString(
      positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
    do { return Array(try encoder.encode(self)) } catch {
      return Array(#"{"ok":false,"error":{"code":"internal","message":"a reply could not be encoded"}}"#.utf8)
    }
  }

  /// - Returns: nil when it is not JSON.
  static func parse(_ bytes: [UInt8]) -> JSONValue? {
    attempt { try JSONDecoder().decode(JSONValue.self, from: Data(bytes)) }
  }
}

extension JSONValue: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByBooleanLiteral {
  init(stringLiteral value: String) { self = .string(value) }
  init(integerLiteral value: Int64) { self = .integer(value) }
  init(booleanLiteral value: Bool) { self = .bool(value) }
}

extension JSONValue: ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral {
  init(arrayLiteral elements: JSONValue...) { self = .array(elements) }
  init(dictionaryLiteral elements: (String, JSONValue)...) {
    self = .object(Dictionary(elements, uniquingKeysWith: { _, last in last }))
  }
}
