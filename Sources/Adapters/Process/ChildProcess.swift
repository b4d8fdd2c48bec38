internal import Glibc

/// A child that runs swap-monitor (this very program, unless told otherwise), with pipes to its standard input and from its standard output.
package final class ChildProcess: @unchecked Sendable {  // used by one thread at a time
  package let handle: ProcessHandle
  private var input: Descriptor?
  private let output: Descriptor
  private var unread: [UInt8] = []

  /// - Parameters:
  ///   - keepsErrors: the child's standard error is ours; else it goes nowhere.
  ///   - environment: NAME=VALUE, besides our own.
  package init(
    executable: String = "/proc/self/exe", arguments: [String], keepsErrors: Bool, environment added: [String] = []
  ) throws(SystemError) {
    let (inputEnd, input) = try Self.makePipe()
    let (output, outputEnd) = try Self.makePipe()
    handle = try Self.spawn(executable, name: executable, arguments, environment: added) { actions in
      posix_spawn_file_actions_adddup2(&actions, inputEnd.raw, STDIN_FILENO)
      posix_spawn_file_actions_adddup2(&actions, outputEnd.raw, STDOUT_FILENO)
      if !keepsErrors { posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0) }
    }
    self.input = input
    self.output = output
  }

  /// Starts a program, without its caller's blocked signals.
  ///
  /// - Parameters:
  ///   - name: what the program is told of its name (argv[0]).
  ///   - environment: NAME=VALUE, besides our own.
  ///   - blocked: signals that wait until the child takes them.
  ///   - prepare: adds what is to be done with descriptors. All others are closed, being close-on-exec.
  static func spawn(
    _ executable: String, name: String, _ arguments: [String], environment added: [String] = [], blocked: [Int32] = [],
    _ prepare: (inout posix_spawn_file_actions_t) -> Void
  ) throws(SystemError) -> ProcessHandle {
    // Safety: everything handed to posix_spawn lives until it has returned.
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    prepare(&actions)
    var words = ([name] + arguments).map { strdup($0) } + [nil]
    defer { for word in words { free(word) } }
    // A thread's blocked signals would be blocked in the child too.
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    var mask = sigset_t()
    sigemptyset(&mask)
    for signal in blocked { sigaddset(&mask, signal) }
    posix_spawnattr_setsigmask(&attributes, &mask)
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK))
    var pid = pid_t()
    var environment =
      (readBytes("/proc/self/environ") ?? []).split(separator: 0).map {
        strdup(String(decoding: $0, as: UTF8.self))
      } + added.map { strdup($0) } + [nil]  // `environ` itself is a global variable, which Swift 6 refuses
    defer { for variable in environment { free(variable) } }
    let failure = posix_spawn(&pid, executable, &actions, &attributes, &words, &environment)
    if failure != 0 { throw SystemError("starting \(executable) \(arguments.first ?? "")", errorNumber: failure) }
    do throws(SystemError) { return try ProcessHandle(pid: pid) } catch {
      // Nobody would ever end it.
      kill(pid, SIGKILL)
      _ = retryingInterrupts { waitpid(pid, nil, 0) }
      throw error
    }
  }

  /// Sends a line. A child that is gone does not read it.
  package func writeLine(_ line: String) {
    guard let input else { return }
    let bytes = Array((line + "\n").utf8)
    _ = retryingInterrupts { write(input.raw, bytes, bytes.count) }
  }

  /// Waits for a line; nil when the child has ended, or the time is up.
  ///
  /// - Parameter deadlineNanoseconds: of `SystemClock`; nil waits for ever.
  package func readLine(deadlineNanoseconds: UInt64? = nil) -> String? {
    while true {
      if let end = unread.firstIndex(of: UInt8(ascii: "\n")) {
        defer { unread.removeFirst(end + 1) }
        return String(decoding: unread[..<end], as: UTF8.self)
      }
      if let deadlineNanoseconds {
        let now = SystemClock().nowNanoseconds
        let left = deadlineNanoseconds > now ? deadlineNanoseconds - now : 0
        guard !Readable.wait(for: [output], timeoutNanoseconds: left).isEmpty else { return nil }
      }
      var chunk = [UInt8](repeating: 0, count: 4096)
      let (count, _) = retryingInterrupts { read(output.raw, &chunk, chunk.count) }
      if count <= 0 { return nil }
      unread += chunk[0..<count]
    }
  }

  /// Closes its standard input, sends it a signal if asked, and waits for its end.
  ///
  /// - Returns: its exit code; nil when a signal killed it.
  @discardableResult
  package func end(signal: Int32? = nil) -> Int32? {
    input = nil
    if let signal {
      do throws(SystemError) { try handle.send(signal) } catch {}  // it has ended already
    }
    var status: Int32 = 0
    _ = retryingInterrupts { waitpid(handle.pid, &status, 0) }
    return status & 0x7F == 0 ? status >> 8 & 0xFF : nil
  }

  package static let terminate: Int32 = SIGTERM

  /// Asks the kernel to end this process when its parent ends.
  package static func endWithParent() { _ = c_prctl(Linux.PR_SET_PDEATHSIG, UInt(SIGTERM)) }

  private static func makePipe() throws(SystemError) -> (read: Descriptor, write: Descriptor) {
    var ends: [Int32] = [0, 0]
    try checked("pipe2") { pipe2(&ends, O_CLOEXEC) }
    return (Descriptor(owning: ends[0]), Descriptor(owning: ends[1]))
  }
}
