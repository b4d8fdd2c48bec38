package import Domain
internal import Glibc

/// Stops and continues a tenant's processes with SIGSTOP and SIGCONT.
package final class SignalFreezer: Freezer, @unchecked Sendable {  // used by the tenant's one job
  private let list: () -> [ProcessHandle?]
  private let identify: () -> Void
  private let record: ([Int32]) throws(SystemError) -> Void
  /// Whom `requestStop` stopped, and `resume` lets go on.
  private var stopped: [ProcessHandle] = []
  /// Whom `resume` has let go on last.
  package private(set) var resumed: [ProcessHandle] = []
  private var tasksSeen: Set<Int32> = []

  /// - Parameters:
  ///   - processes: those of the moment; they come and go. nil is one that is alive, and not known yet.
  ///   - identify: tries to find out who those are.
  ///   - record: told whom we stop, before it is done; should we die, another worker lets them go on. An empty list: nobody.
  package init(
    processes: @escaping () -> [ProcessHandle?], identify: @escaping () -> Void = {},
    record: @escaping ([Int32]) throws(SystemError) -> Void = { _ in }
  ) {
    list = processes
    self.identify = identify
    self.record = record
  }

  package func requestStop() throws(PortFailure) {
    identify()
    var running: [ProcessHandle] = []
    do throws(SystemError) {
      // Those that are stopped are so by somebody else, who will also let them go on; or by us. One that we have stopped
      // before may have been let go on by another tenant in the same process.
      for case let process? in list() where process.isAlive {
        if !(try Self.isStopped(process)) { running.append(process) }
      }
      let new = running.filter { process in !stopped.contains { $0 === process } }
      if !new.isEmpty {
        stopped += new
        try record(stopped.map(\.pid))
      }
    } catch { throw PortFailure(.stopProcess, errorNumber: error.errorNumber) }
    for process in running {
      do throws(SystemError) { try process.send(SIGSTOP) } catch {
        if error.errorNumber == ESRCH { continue }
        throw PortFailure(.stopProcess, errorNumber: error.errorNumber)
      }
    }
  }

  package func allStopped() throws(PortFailure) -> Bool {
    do throws(SystemError) {
      for process in list() {
        guard let process else { return false }
        if process.isAlive, !(try Self.isStopped(process)) { return false }
      }
      return true
    } catch { throw PortFailure(.inspectProcess, errorNumber: error.errorNumber) }
  }

  package func resume() {
    guard !stopped.isEmpty else { return }
    let left = stopped.filter { process in
      do throws(SystemError) {
        try process.send(SIGCONT)
        return false
      } catch { return error.errorNumber != ESRCH }  // or it is dead
    }
    resumed = stopped
    // Another worker is to try again.
    stopped = left
    do throws(SystemError) { try record(left.map(\.pid)) } catch {}  // who goes on twice goes on
  }

  package func beginLook() { tasksSeen = [] }

  package func look() throws(PortFailure) -> Bool {
    identify()
    let processes = list()
    var allSeen = !processes.contains { $0 == nil }
    do throws(SystemError) {
      for case let process? in processes where process.isAlive {
        for task in try ProcessTask.all(of: process.pid, withPlaces: true) where !tasksSeen.contains(task.identifier) {
          if task.place == .outsideOfRemoval { tasksSeen.insert(task.identifier) } else { allSeen = false }
        }
      }
    } catch { throw PortFailure(.inspectProcess, errorNumber: error.errorNumber) }
    return allSeen
  }

  private static func isStopped(_ process: ProcessHandle) throws(SystemError) -> Bool {
    try ProcessTask.all(of: process.pid).allSatisfy(\.isStopped)
  }
}
