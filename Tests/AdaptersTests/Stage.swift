import Glibc
import Testing

@testable import Adapters

/// A keeper in a thread of this process. Each of its workers is a process that only lives and dies, and its link's end,
/// which the test speaks through.
final class Stage: @unchecked Sendable {  // its fields are guarded by `monitor`
  struct Worker {
    let socket: Descriptor
    let process: ProcessHandle
    let program: WorkerProgram
    private let input: Descriptor

    init(socket: Descriptor, process: ProcessHandle, program: WorkerProgram, input: Descriptor) {
      (self.socket, self.process, self.program, self.input) = (socket, process, program, input)
    }

    func link() throws -> KeeperLink { try KeeperLink(socket: socket) }
    func kill() throws { try process.send(SIGKILL) }

    /// Has the process end with that exit code.
    func exit(_ code: Int) {
      let line = Array("\(code)\n".utf8)
      #expect(write(input.raw, line, line.count) == line.count)
    }
  }

  private let monitor = Monitor()
  /// All that were started; they keep their links.
  private var workers: [Worker] = []
  private var taken = 0
  private var lines: [String] = []
  private var result: Background<Result<Int32, SystemError>>?
  private let signalInput: Descriptor
  /// Whether starting a worker fails.
  private var failures = 0

  init(
    held: [HeldKey: Descriptor] = [:], executable: String = "/bin/sh", layoutQuestion: [String] = ["-c", "exit 1"],
    serviceManagerAddress: String? = nil,
    start: (start: Keeper.Start, prepare: @Sendable (WorkerProgram) -> Void)? = nil
  ) throws {
    var ends: [Int32] = [0, 0]
    try #require(pipe2(&ends, O_CLOEXEC) == 0)
    signalInput = Descriptor(owning: ends[1])
    let signals = EndSignals(reading: Descriptor(owning: ends[0]))
    result = try Background { [self] in
      do throws(SystemError) {
        let keeper = try Keeper(
          executable: executable, layoutQuestion: layoutQuestion, held: held, signals: signals,
          serviceManagerAddress: serviceManagerAddress,
          log: { line in self.monitor.withLock { self.lines.append(line) } }, start: start ?? (self.start, { _ in }))
        return .success(try keeper.run())
      } catch { return .failure(error) }
    }
  }

  private func start(_ program: WorkerProgram, _ link: Descriptor) throws(SystemError) -> StartedWorker {
    let mustFail = monitor.withLock {
      failures -= 1
      return failures >= 0
    }
    if mustFail { throw SystemError("starting a worker", errorNumber: EAGAIN) }
    var ends: [Int32] = [0, 0]
    try checked("pipe2") { pipe2(&ends, O_CLOEXEC) }
    let (output, input) = (Descriptor(owning: ends[0]), Descriptor(owning: ends[1]))
    let process = try ChildProcess.spawn("/bin/sh", name: "sh", ["-c", "read code; exit $code"]) {
      posix_spawn_file_actions_adddup2(&$0, output.raw, STDIN_FILENO)
    }
    let copy = Descriptor(owning: fcntl(link.raw, F_DUPFD_CLOEXEC, 0))
    monitor.withLock {
      workers.append(Worker(socket: copy, process: process, program: program, input: input))
      monitor.wakeAll()
    }
    return StartedWorker(process: process)
  }

  func failStarts(_ count: Int) { monitor.withLock { failures = count } }

  /// The next worker that the keeper starts.
  func next() throws -> Worker {
    let deadline = SystemClock().nowNanoseconds + waitLimitSeconds * 1_000_000_000
    let worker = monitor.withLock { () -> Worker? in
      while workers.count == taken && SystemClock().nowNanoseconds < deadline {
        monitor.wait(untilNanoseconds: deadline)
      }
      guard taken < workers.count else { return nil }
      taken += 1
      return workers[taken - 1]
    }
    return try #require(worker)
  }

  /// What the keeper has logged.
  var log: [String] { monitor.withLock { lines } }

  /// The same without how long it waits: that depends on how fast the machine is.
  var deaths: [String] { log.filter { !$0.contains("have died young") } }

  /// Sends the keeper a signal, in its way to hear them.
  func signal(_ number: UInt32) {
    var information = [UInt32](repeating: 0, count: 32)
    information[0] = number
    #expect(write(signalInput.raw, information, 128) == 128)
  }

  /// How the keeper ended; nil when it does not.
  func end() -> Result<Int32, SystemError>? { result?.wait() }
}

func inode(_ descriptor: Descriptor?) -> UInt? { descriptor.map { UInt(status(of: $0).st_ino) } }
