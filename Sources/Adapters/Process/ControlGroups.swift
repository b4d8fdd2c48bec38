internal import Glibc

/// The memory limits of control groups (cgroup v2, and v1 where memory is still there).
///
/// What can't be read is no limit: the files are missing at the root of the hierarchy, where there is no controller, and
/// for groups outside of our namespace.
struct ControlGroups: Sendable {
  var files = "/sys/fs/cgroup"
  /// In the place of /proc.
  var processes: String?

  private struct Names {
    let limit: String
    var high: String?
    let usage, statisticsPrefix: String
    static let v2 = Names(
      limit: "memory.max", high: "memory.high", usage: "memory.current", statisticsPrefix: "")
    // Without the prefix, v1 tells of the group itself, and not of those below it.
    static let v1 = Names(limit: "memory.limit_in_bytes", usage: "memory.usage_in_bytes", statisticsPrefix: "total_")
  }

  /// How many bytes may be taken in a process's group, and every group above it, before one of them is over its limit.
  ///
  /// - Parameters:
  ///   - process: a process's number, or "self".
  ///   - mayBeSlowed: above memory.high nobody is killed, but whoever takes memory is made to wait, which would hold up faults.
  ///   - reserve: what is to be left, by the limit.
  /// - Returns: nil where there is no limit.
  func room(of process: String, mayBeSlowed: Bool, reserve: (Int) -> Int) -> Int? {
    guard let text = membership(of: process) else { return nil }
    var least: Int?
    // "0::/path" is v2's; "4:memory:/path", or several controllers with commas, v1's (cgroups(7)).
    for line in text.split(separator: "\n") {
      let fields = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
      guard fields.count == 3 else { continue }
      let (root, names): (String, Names)
      if fields[0] == "0" && fields[1].isEmpty {
        (root, names) = (files, .v2)
      } else if fields[1].split(separator: ",").contains("memory") {
        (root, names) = ("\(files)/\(fields[1])", .v1)
      } else {
        continue
      }
      var path = fields[2].split(separator: "/")
      while true {
        let directory = path.reduce(root) { "\($0)/\($1)" }
        if let room = room(in: directory, names, mayBeSlowed, reserve) { least = min(least ?? room, room) }
        if path.popLast() == nil { break }
      }
    }
    return least
  }

  private func membership(of process: String) -> String? {
    if let pid = Int32(process), processes == nil { return ProcessFiles(pid: pid).text("cgroup") }
    return readText("\(processes ?? "/proc")/\(process)/cgroup")
  }

  private func room(in directory: String, _ names: Names, _ mayBeSlowed: Bool, _ reserve: (Int) -> Int) -> Int? {
    // v2 says "max", and v1 a number near 2^63, where there is no limit.
    let files = [names.limit] + (mayBeSlowed ? [] : [names.high].compactMap { $0 })
    let limits = files.compactMap { number("\(directory)/\($0)") }.filter { $0 < 1 << 60 }
    guard let limit = limits.min(),
      let usage = number("\(directory)/\(names.usage)")
    else { return nil }
    return limit - usage - reserve(limit) + reclaimable(directory, names) / 2
  }

  /// Clean page cache. Half of it counts, as in the kernel's MemAvailable: the other half may be what programs work with.
  /// Shared memory is not in it (the kernel keeps that with anonymous memory), and swap space is left out.
  private func reclaimable(_ directory: String, _ names: Names) -> Int {
    guard let text = readText("\(directory)/memory.stat") else { return 0 }
    var amounts: [Substring: Int] = [:]
    for line in text.split(separator: "\n") {
      let words = line.split(separator: " ")
      if words.count == 2 { amounts[words[0]] = Int(words[1]) }
    }
    func amount(_ name: String) -> Int { amounts[Substring(names.statisticsPrefix + name)] ?? 0 }
    let dirty = amount("file_dirty") + amount("file_writeback") + amount("dirty") + amount("writeback")
    return max(0, amount("inactive_file") + amount("active_file") - dirty)
  }

  private func number(_ path: String) -> Int? { readText(path, limit: 64).flatMap { Int($0.trimmingLine) } }
}
