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

  /// For what a tenant can bring about as often as it likes: a line a second at most, the others counted.
  final class Limited {
    private let log: Log
    private var lastNanoseconds: UInt64?
    private var leftOut = 0

    init(_ log: Log) { self.log = log }

    func warning(_ text: @autoclosure () -> String) { write(.warning, text) }
    func error(_ text: @autoclosure () -> String) { write(.error, text) }

    private func write(_ level: Level, _ text: () -> String) {
      let now = SystemClock().nowNanoseconds
      if let last = lastNanoseconds, now - last < 1_000_000_000 {
        leftOut += 1
        return
      }
      log.write(level) { leftOut > 0 ? "\(text()) (and \(leftOut) more like this)" : text() }
      lastNanoseconds = now
      leftOut = 0
    }
  }

  private func write(_ level: Level, _ text: () -> String) {
    guard level.rawValue <= self.level.rawValue else { return }
    Console.writeError("\(Console.timestamp()) swap-monitor: \(level): \(text())\n")
  }
}
