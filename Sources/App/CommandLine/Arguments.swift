/// A wrong use of the command line: exit code 2.
struct UsageError: Error, Equatable {
  let message: String
}

/// Why a command has failed, in words: exit code 1.
struct CommandFailure: Error {
  /// The daemon's, or one of our own: "failed", "no-daemon", "permission-denied", `interrupted`.
  var code = "failed"
  let message: String
  /// What is shown with --json, where that is more than code and message: the daemon's own refusal, say.
  var report: JSONValue?

  static let interrupted = "interrupted"
}

/// A command's arguments: options (`--name VALUE`, `--name=VALUE`), flags (`--name`) and words, taken one by one.
struct Arguments {
  private var options: [(name: String, value: String?)] = []
  private(set) var words: [String] = []
  /// All of it as it was given.
  let given: [String]

  /// - Parameters:
  ///   - valued: names of the options that take a value.
  ///   - flags: names of those that take none.
  init(_ arguments: [String], valued: Set<String>, flags: Set<String>) throws(UsageError) {
    given = arguments
    var index = 0
    while index < arguments.count {
      let argument = arguments[index] == "-h" ? "--help" : arguments[index]
      index += 1
      if argument == "--" {
        words += arguments[index...]
        break
      }
      guard argument.hasPrefix("--"), argument.count > 2 else {
        guard !argument.hasPrefix("-") || argument == "-" else {
          throw UsageError(message: "unknown option \(argument)")
        }
        words.append(argument)
        continue
      }
      let parts = argument.dropFirst(2).split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      let name = String(parts[0])
      if flags.contains(name) {
        guard parts.count == 1 else { throw UsageError(message: "--\(name) takes no value") }
        options.append((name, nil))
      } else if valued.contains(name) {
        if parts.count == 2 {
          options.append((name, String(parts[1])))
        } else {
          guard index < arguments.count else { throw UsageError(message: "--\(name) needs a value") }
          options.append((name, arguments[index]))
          index += 1
        }
      } else {
        throw UsageError(message: "unknown option --\(name)")
      }
    }
  }

  func has(_ name: String) -> Bool { options.contains { $0.name == name } }

  /// The last value given.
  func value(_ name: String) -> String? { options.last { $0.name == name }?.value }

  /// All values given.
  func values(_ name: String) -> [String] { options.filter { $0.name == name }.compactMap(\.value) }

  func size(_ name: String) throws(UsageError) -> UInt64? {
    guard let text = value(name) else { return nil }
    guard let size = ByteSize.parse(text) else {
      throw UsageError(message: "--\(name): \"\(text)\" is no size; write a number with K, M, G or T, such as 512M")
    }
    return size
  }

  func number<Number: FixedWidthInteger>(_ name: String, _ allowed: ClosedRange<Number>) throws(UsageError) -> Number? {
    guard let text = value(name) else { return nil }
    guard let number = Number(text), allowed.contains(number) else {
      throw UsageError(
        message: "--\(name): \"\(text)\"; a number from \(allowed.lowerBound) to \(allowed.upperBound) is right")
    }
    return number
  }

  /// In nanoseconds.
  func seconds(_ name: String, _ allowed: ClosedRange<Double>) throws(UsageError) -> UInt64? {
    guard let text = value(name) else { return nil }
    guard let seconds = Double(text), allowed.contains(seconds) else {
      let (least, most) = (ByteSize.decimals(allowed.lowerBound, 1), ByteSize.decimals(allowed.upperBound, 0))
      throw UsageError(message: "--\(name): \"\(text)\"; a number of seconds from \(least) to \(most) is right")
    }
    return UInt64(seconds * 1e9)
  }

  /// - Throws: unless there are as many words as `allowed` says.
  func expectWords(_ allowed: ClosedRange<Int>, _ what: String) throws(UsageError) {
    guard allowed.contains(words.count) else {
      throw UsageError(message: words.count > allowed.upperBound ? "unexpected \"\(words[allowed.upperBound])\"" : what)
    }
  }
}

extension BinaryInteger {
  /// "1 page", "2 pages".
  func counted(_ what: String, plural: String? = nil) -> String { "\(self) \(self == 1 ? what : plural ?? what + "s")" }
}

/// Sizes as people write them: powers of 1024.
enum ByteSize {
  static func parse(_ text: String) -> UInt64? {
    var digits = text.uppercased()[...]
    if digits.hasSuffix("IB") {
      digits = digits.dropLast(2)
    } else if digits.hasSuffix("B") {
      digits = digits.dropLast()
    }
    var shift: UInt64 = 0
    if let unit = digits.last, let power = Self.shifts[unit] {
      shift = power
      digits = digits.dropLast()
    }
    guard let number = UInt64(digits), number <= UInt64.max >> shift else { return nil }
    return number << shift
  }

  private static let shifts: [Character: UInt64] = ["K": 10, "M": 20, "G": 30, "T": 40]

  /// Three significant digits or so: "1.00 GiB", "512 MiB", "0 B".
  static func text(_ bytes: UInt64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"]
    var unit = 0
    var value = Double(bytes)
    while value >= 1024, unit < units.count - 1 {
      value /= 1024
      unit += 1
    }
    return "\(unit == 0 ? "\(bytes)" : decimals(value, value < 10 ? 2 : value < 100 ? 1 : 0)) \(units[unit])"
  }

  /// - Parameter count: of decimals. What is no number of up to 15 digits is written as Swift does.
  static func decimals(_ value: Double, _ count: Int) -> String {
    var scale = 1.0
    for _ in 0..<count { scale *= 10 }
    let scaled = (value.magnitude * scale).rounded()
    guard scaled.isFinite, scaled < 1e15 else { return "\(value)" }
    let (whole, sign) = (Int(scaled), value < 0 && scaled > 0 ? "-" : "")
    guard count > 0 else { return "\(sign)\(whole)" }
    let fraction = String(whole % Int(scale))
    return "\(sign)\(whole / Int(scale))." + String(repeating: "0", count: count - fraction.count) + fraction
  }
}
