import Glibc
import Testing

@testable import Adapters
@testable import App

private let python = (["/usr/bin/python3", "/usr/local/bin/python3", "/bin/python3"] as [String]).first { access($0, X_OK) == 0 }

/// A client written from PROTOCOL.md in another language.
@Suite(.enabled(if: hasUserfaultfd))
struct PythonClientTests {
  @Test(.enabled(if: python != nil, "python3 is not installed"))
  func `it is swapped out and reads itself back`() throws {
    let daemon = try Daemon()
    let script = #filePath.split(separator: "/").dropLast(2).reduce("") { "\($0)/\($1)" } + "/Clients/client.py"
    let child = try ChildProcess(
      executable: try #require(python), arguments: [script, daemon.socketPath, "32"], keepsErrors: true)
    #expect(child.readLine() == "verified")
    #expect(child.end() == 0)
  }
}
