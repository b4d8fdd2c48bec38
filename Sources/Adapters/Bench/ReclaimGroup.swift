internal import Glibc

/// A control group of one process, whose memory the kernel can be asked to take back: that empties its swap cache too.
package final class ReclaimGroup {
  private let path: String
  private let parent: String
  private let process: Int32
  private let isFirstVersion: Bool

  /// What the process takes from now on counts.
  ///
  /// - Throws: where there is no control of memory, or we may not have it.
  package init(of process: ProcessHandle) throws(SystemError) {
    isFirstVersion = access("/sys/fs/cgroup/memory/memory.limit_in_bytes", F_OK) == 0
    parent = "/sys/fs/cgroup" + (isFirstVersion ? "/memory" : "")
    path = "\(parent)/swap-monitor-bench-\(process.pid)"
    self.process = process.pid
    let path = path
    try checked("making \(path)") { mkdir(path, 0o755) }
    do throws(SystemError) { try Self.put("\(process.pid)", into: "\(path)/cgroup.procs") } catch {
      rmdir(path)
      throw error
    }
  }

  /// Takes back what can be, into swap space.
  package func reclaim() {
    do throws(SystemError) {
      try Self.put(
        isFirstVersion ? "0" : "1T", into: "\(path)/\(isFirstVersion ? "memory.force_empty" : "memory.reclaim")")
    } catch {}  // EAGAIN or EBUSY: not all of it, as a rule
  }

  deinit {
    do throws(SystemError) { try Self.put("\(process)", into: "\(parent)/cgroup.procs") } catch {}  // it has ended
    rmdir(path)
  }

  private static func put(_ text: String, into path: String) throws(SystemError) {
    let file = Descriptor(owning: try checked("opening \(path)") { open(path, O_WRONLY | O_CLOEXEC) })
    try checked("writing \(path)") { write(file.raw, text, text.utf8.count) }
  }
}
