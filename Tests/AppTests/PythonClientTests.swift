import Glibc
import Testing

@testable import Adapters
@testable import App

let python = (["/usr/bin/python3", "/usr/local/bin/python3", "/bin/python3"] as [String]).first {
  access($0, X_OK) == 0
}

/// Clients written from PROTOCOL.md in another language.
@Suite(.enabled(if: hasUserfaultfd))
struct PythonClientTests {
  @Test(
    .enabled(if: python != nil, "python3 is not installed"),
    arguments: [
      "client.py",  // swapped out, reads itself back
      "unstoppable.py",  // enable fails, nothing has changed
      "direct_io.py",  // enable refuses, and says why
      "forks.py",  // forks, mremap and munmap, unannounced
      "disk_space.py",  // the disk gets its space back, at once or gradually
      "strangers.py",  // mappings that nobody has announced
      "crowd.py",  // fifty processes at fifty addresses, half of which die
      "removes.py",  // four thousand removes race an enable loop
    ])
  func `it finds all its bytes right`(_ name: String) throws {
    let daemon = try Daemon()
    try expectVerified(name, daemon.socketPath)
  }
}

/// The command line on a terminal, before a daemon that the script plays.
struct TerminalTests {
  @Test(.enabled(if: python != nil, "python3 is not installed"))
  func `progress, Ctrl-C and the watch`() throws { try expectVerified("terminal.py", program) }
}

func clientPath(_ name: String) -> String {
  #filePath.split(separator: "/").dropLast(2).reduce("") { "\($0)/\($1)" } + "/Clients/\(name)"
}

private func expectVerified(_ name: String, _ argument: String) throws {
  let child = try ChildProcess(
    executable: try #require(python), arguments: ["-B", clientPath(name), argument], keepsErrors: true)
  #expect(child.readLine() == "verified")
  #expect(child.end() == 0)
}
