internal import Glibc
internal import Synchronization

/// Standard output and error, unbuffered.
package enum Console {
  package static func write(_ text: String) {
    if !put(text, to: STDOUT_FILENO) { failed.store(true, ordering: .relaxed) }
  }

  /// Whether something written to standard output did not get there.
  package static var hasFailed: Bool { failed.load(ordering: .relaxed) }
  private static let failed = Atomic(false)

  package static func writeError(_ text: String) { _ = put(text, to: STDERR_FILENO) }

  /// Whether standard output is a terminal that can redraw a line.
  package static var isTerminal: Bool { isatty(STDOUT_FILENO) == 1 && Machine.environment("TERM") != "dumb" }

  /// The terminal's size in characters, as of now; 80 by 24 where it does not say.
  package static var terminalSize: (columns: Int, rows: Int) {
    var size = winsize()
    guard ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0, size.ws_row > 0 else { return (80, 24) }
    return (Int(size.ws_col), Int(size.ws_row))
  }

  /// A line of standard input, without its end; nil at the end.
  package static func readLine() -> String? {
    var line: [UInt8] = []
    var byte: UInt8 = 0
    while true {
      let (count, _) = retryingInterrupts { read(STDIN_FILENO, &byte, 1) }
      if count <= 0 { return line.isEmpty ? nil : String(decoding: line, as: UTF8.self) }
      if byte == UInt8(ascii: "\n") { return String(decoding: line, as: UTF8.self) }
      line.append(byte)
    }
  }

  /// The time of day in UTC, as logs have it.
  package static func timestamp() -> String {
    var now = time(nil)
    var parts = tm()
    gmtime_r(&now, &parts)
    var text = [CChar](repeating: 0, count: 32)
    let count = strftime(&text, text.count, "%Y-%m-%dT%H:%M:%SZ", &parts)
    return String(decoding: text[0..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  package static func exit(_ code: Int32) -> Never { Glibc.exit(code) }

  /// To be called first. Where a standard descriptor is closed, the next file gets its number, and is written to.
  package static func openWhatIsClosed() {
    for standard in STDIN_FILENO...STDERR_FILENO where fcntl(standard, F_GETFD) < 0 {
      // The lowest free number is this one: those below are open by now.
      _ = open("/dev/null", O_RDWR)
    }
  }

  /// Without what is done at an orderly exit, which other threads could run into.
  package static func exitAtOnce(_ code: Int32) -> Never { _exit(code) }

  private static func put(_ text: String, to descriptor: Int32) -> Bool {
    attempt { try writeAll(Array(text.utf8), to: descriptor, operation: "writing") } != nil  // else nobody reads
  }
}
