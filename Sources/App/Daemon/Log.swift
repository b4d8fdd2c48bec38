internal import Adapters

/// The daemon's log: lines on standard error, as a service manager expects them.
struct Log: Sendable {
  enum Level: Int, CaseIterable, Sendable {
    case error, warning, info, debug
    init?(name: String) {
      guard let level = Self.allCases.first(where: { "\($0)" == name }) else { return nil }
      self = level
    }
  }

  let level: Level

  func error(_ text: @autoclosure () -> String) { write(.error, text) }
  func warning(_ text: @autoclosure () -> String) { write(.warning, text) }
  func info(_ text: @autoclosure () -> String) { write(.info, text) }
  func debug(_ text: @autoclosure () -> String) { write(.debug, text) }

  private func write(_ level: Level, _ text: () -> String) {
    guard level.rawValue <= self.level.rawValue else { return }
    Console.writeError("swap-monitor: \(level): \(text())\n")
  }
}
