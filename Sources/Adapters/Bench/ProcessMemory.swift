internal import Glibc

/// What memory a process of our own holds, as /proc tells it, in bytes.
package struct ProcessMemory {
  private let pid: Int32

  package init(of process: ProcessHandle) { pid = process.pid }

  /// Its heap, stacks and the like; locked read buffers too.
  package var anonymousBytes: Int {
    let line = readText("/proc/\(pid)/status")?.split(separator: "\n").first { $0.hasPrefix("RssAnon:") }
    return (line.flatMap { Int($0.filter(\.isNumber)) } ?? 0) << 10
  }

  /// What its open memfds of this name hold.
  package func bytes(inMemoryFiles name: String) -> Int { Self.bytes(at: paths(ofMemoryFiles: name)) }

  /// Where its open memfds of this name are found.
  package func paths(ofMemoryFiles name: String) -> [String] { files { $0.hasPrefix("/memfd:\(name) ") } }

  /// What such files hold.
  package static func bytes(at paths: [String]) -> Int {
    paths.reduce(0) { sum, path in
      var status = stat()
      return stat(path, &status) == 0 ? sum + Int(status.st_blocks) * 512 : sum
    }
  }

  /// What the page cache holds of its unnamed files on disk (from Linux 6.5 on).
  package var cachedBytes: Int {
    files { !$0.hasPrefix("/memfd:") && $0.hasSuffix(" (deleted)") }.reduce(0) { sum, path in
      let raw = open(path, O_RDONLY | O_CLOEXEC)
      guard raw >= 0 else { return sum }
      let file = Descriptor(owning: raw)
      return sum + (cachedPages(file)?.cached ?? 0) * sysconf(Int32(_SC_PAGESIZE))
    }
  }

  /// The paths of its descriptors whose targets are as asked.
  private func files(_ isAsked: (String) -> Bool) -> [String] {
    (numberedEntries(of: "/proc/\(pid)/fd") ?? []).map { "/proc/\(pid)/fd/\($0)" }
      .filter { linkTarget($0).map(isAsked) == true }
  }

  /// Empties the page cache of what is clean, as far as we may.
  package static func dropCaches() {
    sync()
    let raw = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC)
    guard raw >= 0 else { return }
    let file = Descriptor(owning: raw)
    _ = write(file.raw, "1\n", 2)
  }
}
