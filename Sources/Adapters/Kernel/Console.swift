internal import Glibc

/// Standard output and error, unbuffered.
package enum Console {
  package static func write(_ text: String) { put(text, to: STDOUT_FILENO) }
  package static func writeError(_ text: String) { put(text, to: STDERR_FILENO) }
  package static var isTerminal: Bool { isatty(STDOUT_FILENO) == 1 }

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

  package static func exit(_ code: Int32) -> Never { Glibc.exit(code) }

  private static func put(_ text: String, to descriptor: Int32) {
    var bytes = Array(text.utf8)
    while !bytes.isEmpty {
      let (count, _) = retryingInterrupts { Glibc.write(descriptor, bytes, bytes.count) }
      guard count > 0 else { return }  // nobody reads
      bytes.removeFirst(count)
    }
  }
}
