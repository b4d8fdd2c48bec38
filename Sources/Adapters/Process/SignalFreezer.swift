package import Domain
internal import Glibc

/// Stops and continues a tenant's processes with SIGSTOP and SIGCONT.
package final class SignalFreezer: Freezer, @unchecked Sendable {  // used by the tenant's one job
  private let list: () -> [ProcessHandle]
  /// Whom `requestStop` stopped, and `resume` lets go on.
  private var stopped: [ProcessHandle] = []
  private var tasksSeen: Set<Int32> = []

  /// - Parameter processes: those of the moment; they come and go.
  package init(processes: @escaping () -> [ProcessHandle]) { list = processes }

  private var processes: [ProcessHandle] { list() }

  package func requestStop() throws(PortFailure) {
    for process in processes where process.isAlive {
      do throws(SystemError) {
        if try Self.isStopped(process) { continue }  // by somebody else, who will also let it go on; or by us
        if !stopped.contains(where: { $0 === process }) { stopped.append(process) }
        // Also to one that has been stopped before: another tenant in the same process may have let it go on.
        try process.send(SIGSTOP)
      } catch {
        if error.errorNumber == ESRCH { continue }
        throw PortFailure(.stopProcess, errorNumber: error.errorNumber)
      }
    }
  }

  package func allStopped() throws(PortFailure) -> Bool {
    do throws(SystemError) {
      for process in processes where process.isAlive {
        if !(try Self.isStopped(process)) { return false }
      }
      return true
    } catch { throw PortFailure(.inspectProcess, errorNumber: error.errorNumber) }
  }

  package func resume() {
    for process in stopped {
      do throws(SystemError) { try process.send(SIGCONT) } catch {}  // it is dead
    }
    stopped = []
  }

  package func beginLook() { tasksSeen = [] }

  package func look() throws(PortFailure) -> Bool {
    var allSeen = true
    do throws(SystemError) {
      for process in processes where process.isAlive {
        let tasks = ProcessTasks(pid: process.pid)
        for task in try tasks.identifiers() where !tasksSeen.contains(task) {
          if tasks.place(of: task) == .outsideOfRemoval { tasksSeen.insert(task) } else { allSeen = false }
        }
      }
    } catch { throw PortFailure(.inspectProcess, errorNumber: error.errorNumber) }
    return allSeen
  }

  private static func isStopped(_ process: ProcessHandle) throws(SystemError) -> Bool {
    let tasks = ProcessTasks(pid: process.pid)
    return try tasks.identifiers().allSatisfy { tasks.isStopped($0) }
  }
}
