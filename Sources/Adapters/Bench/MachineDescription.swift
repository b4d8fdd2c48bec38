internal import Glibc

/// Where and when something is measured.
package struct MachineDescription {
  /// In UTC: year, month, day.
  package let day = String(Console.timestamp().prefix(10))
  package let kernel: String
  package let processors = sysconf(Int32(_SC_NPROCESSORS_ONLN))
  package let model: String
  package let memoryBytes = UInt64(sysconf(Int32(_SC_PHYS_PAGES)) * sysconf(Int32(_SC_PAGESIZE)))
  /// Its type and device.
  package let filesystem: String
  package let hugePages = Self.hugePages

  /// - Parameter swapDirectory: tells the filesystem.
  package init(swapDirectory: String) {
    kernel = readText("/proc/sys/kernel/osrelease")?.trimmingLine ?? "?"
    let line = readText("/proc/cpuinfo")?.split(separator: "\n").first { $0.hasPrefix("model name") }
    model = line?.split(separator: ":").last?.trimmingLine ?? "processors"
    filesystem = Self.filesystem(of: swapDirectory)
  }

  /// The kernel's setting for shared memory: the word in brackets.
  package static var hugePages: String {
    let words = readText("/sys/kernel/mm/transparent_hugepage/shmem_enabled")?.trimmingLine.split(separator: " ")
    return words?.first { $0.hasPrefix("[") }.map { String($0.dropFirst().dropLast()) } ?? "none"
  }

  /// As /proc/PID/mountinfo has it (proc_pid_mountinfo(5)): the mount that the path lies deepest in.
  private static func filesystem(of path: String) -> String {
    guard let resolved = realpath(path, nil) else { return "?" }
    defer { free(resolved) }
    // Safety: a C string until it is freed.
    let path = String(cString: resolved)
    let mounts = readText("/proc/self/mountinfo")?.split(separator: "\n").compactMap { line -> (String, String)? in
      let words = line.split(separator: " ").map(String.init)
      guard words.count > 4, let dash = words.firstIndex(of: "-"), dash + 2 < words.count else { return nil }
      let place = words[4] == "/" ? "/" : "\(words[4])/"
      return "\(path)/".hasPrefix(place) ? (place, "\(words[dash + 1]) (\(words[dash + 2]))") : nil
    }
    // Of several at one place the last one covers the others.
    return mounts?.reduce(("", "?")) { $1.0.count >= $0.0.count ? $1 : $0 }.1 ?? "?"
  }
}
