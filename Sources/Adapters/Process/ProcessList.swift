internal import Domain

/// A tenant's processes, as they come and go: whoever looks gets the list of that moment.
package final class ProcessList: @unchecked Sendable {
  // guarded by `lock`
  private let lock = PlainMutex()
  private var processes: [UserfaultProcess]

  package init(_ processes: [UserfaultProcess]) { self.processes = processes }

  package var all: [UserfaultProcess] {
    lock.lock()
    defer { lock.unlock() }
    return processes
  }

  /// As a freezer wants them: nil for one that is alive, and not known yet.
  package var handles: [ProcessHandle?] { all.filter(\.isAlive).map(\.handle) }

  package func append(_ process: UserfaultProcess) {
    lock.lock()
    defer { lock.unlock() }
    processes.append(process)
  }

  /// - Returns: how many are left.
  package func remove(_ process: UserfaultProcess) -> Int {
    lock.lock()
    defer { lock.unlock() }
    processes.removeAll { $0 === process }
    return processes.count
  }
}
