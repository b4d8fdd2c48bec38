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
      "fork_deaths.py",  // forks all the time, while the worker is killed
      "recovery.py",  // the worker is killed, and how long that takes is measured
      "removes.py",  // four thousand removes race an enable loop
      "hostile.py",  // clients that do their worst harm only themselves
      "malformed.py",  // thousands of bad requests, with descriptors
    ])
  func `it finds all its bytes right`(_ name: String) throws {
    let daemon = try Daemon()
    try expectVerified(name, [daemon.socketPath])
  }
}

/// Several users before one daemon. Only root can be all of them.
@Suite(.enabled(if: hasUserfaultfd && isRoot))
struct UserTests {
  @Test(.enabled(if: python != nil, "python3 is not installed"))
  func `users are kept apart, and none takes everything`() throws {
    let daemon = try Daemon(["--socket-mode", "0666"])
    try expectVerified("users.py", [daemon.socketPath])
  }
}

/// The command line on a terminal, before a daemon that the script plays.
struct TerminalTests {
  @Test(.enabled(if: python != nil, "python3 is not installed"))
  func `progress, Ctrl-C and the watch`() throws { try expectVerified("terminal.py", [program]) }
}

/// The daemon as a service, before a manager that the script plays.
struct PlayedServiceTests {
  @Test(.enabled(if: python != nil && hasUserfaultfd, "python3 is not installed"))
  func `activation, readiness, watchdog, and another life with the descriptors that were kept`() throws {
    try expectVerified("service.py", [program, "life"])
  }

  @Test(.enabled(if: python != nil && hasUserfaultfd, "python3 is not installed"))
  func `keeper and worker die in one blow: the next daemon goes on with what was kept`() throws {
    try expectVerified("service.py", [program, "deaths"])
  }
}

struct HeldThreadTests {
  @Test(.enabled(if: python != nil && hasUserfaultfd, "python3 is not installed"))
  func `a dead worker's thread that a tenant holds is waited for, under the next keepers, too`() throws {
    try expectVerified("held_thread.py", [program])
  }
}

func clientPath(_ name: String) -> String {
  #filePath.split(separator: "/").dropLast(2).reduce("") { "\($0)/\($1)" } + "/Clients/\(name)"
}

private func expectVerified(_ name: String, _ arguments: [String]) throws {
  let child = try ChildProcess(
    executable: try #require(python), arguments: ["-B", clientPath(name)] + arguments, keepsErrors: true)
  #expect(child.readLine() == "verified")
  #expect(child.end() == 0)
}
