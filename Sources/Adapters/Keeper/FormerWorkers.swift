/// Workers that are dead but for threads that the kernel holds in the middle of a call, uninterruptibly: a tenant can have it
/// wait for a lock as long as it likes. None of these threads comes back to its program; but each finishes its call, some time,
/// and that must not meet the work of the next worker. Other tenants are no concern of theirs.
package struct FormerWorkers: Sendable {
  private var holding: [UInt64: [ProcessHandle]] = [:]
  /// Of whom it can't be told what their threads are.
  private var unknown: [ProcessHandle] = []

  init(_ workers: [ProcessHandle]) {
    for worker in workers where worker.isAlive {
      do throws(SystemError) {
        let files = ProcessFiles(pid: worker.pid)
        for task in try files.entries("task") {
          let name = String(decoding: try files.bytes("task/\(task)/comm"), as: UTF8.self)
          if let serial = Thread.serial(inName: name) { holding[serial, default: []].append(worker) }
        }
      } catch { if worker.isAlive { unknown.append(worker) } }
    }
  }

  /// Whose ends have to be waited for before anything is done for a tenant.
  package func workers(holding tenant: UInt64) -> [ProcessHandle] { unknown + (holding[tenant] ?? []) }
}
