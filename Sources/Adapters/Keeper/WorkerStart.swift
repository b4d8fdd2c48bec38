internal import Glibc

extension Keeper {
  /// - Returns: what starts a worker, and what prepares the next one's start.
  static func starting(_ arguments: [String], attendant: [String]) -> (Start, @Sendable (WorkerProgram) -> Void) {
    let supply = AttendantSupply(attendant)
    return (
      { program, link throws(SystemError) in
        let attendant = try supply.take(program)
        do throws(SystemError) {
          // The signals to end with wait until the worker takes them: one that came too early would only kill it.
          let worker = try ChildProcess.spawn(
            program.executable, name: program.path, arguments, blocked: EndSignals.numbers
          ) {
            posix_spawn_file_actions_adddup2(&$0, link.raw, KeeperLink.workerDescriptor)
            posix_spawn_file_actions_adddup2(&$0, attendant.link.raw, Attendant.linkDescriptor)
            posix_spawn_file_actions_adddup2(&$0, attendant.process.descriptor.raw, Attendant.processDescriptor)
          }
          return StartedWorker(process: worker, attendant: attendant.process)
        } catch {
          StartedWorker.end(attendant.process)
          throw error
        }
      }, { supply.prepare($0) }
    )
  }
}

/// Starts attendants, one ahead: tenants wait for the next worker, and that for its attendant.
final class AttendantSupply: @unchecked Sendable {  // used by the keeper's one thread
  struct Started {
    let process: ProcessHandle
    /// The worker's end of the link. (An attendant without a worker ends when nobody holds it.)
    let link: Descriptor
    fileprivate let executable: String
  }

  private let arguments: [String]
  private var next: Started?

  init(_ arguments: [String]) { self.arguments = arguments }

  deinit { discard() }

  /// One that runs the program.
  func take(_ program: WorkerProgram) throws(SystemError) -> Started {
    if let next, next.executable == program.executable, next.process.isAlive {
      self.next = nil
      return next
    }
    discard()
    return try start(program)
  }

  /// Has one ready for `take`. Should that fail, `take` tries again.
  func prepare(_ program: WorkerProgram) {
    if next == nil { next = attempt { try start(program) } }
  }

  private func discard() {
    if let next { StartedWorker.end(next.process) }
    next = nil
  }

  private func start(_ program: WorkerProgram) throws(SystemError) -> Started {
    let (ours, theirs) = try SequencedSocket.makePair()
    // It ends with the worker, whatever a terminal or a service manager sends to all of us.
    let process = try ChildProcess.spawn(
      program.executable, name: program.path, arguments, blocked: EndSignals.numbers
    ) {
      posix_spawn_file_actions_adddup2(&$0, theirs.raw, KeeperLink.workerDescriptor)
    }
    return Started(process: process, link: ours, executable: program.executable)
  }
}
