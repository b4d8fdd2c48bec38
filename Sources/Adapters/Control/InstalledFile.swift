internal import Glibc

/// Files that are put in place whole, or stay as they were.
package enum InstalledFile {
  /// Makes the file, and the directories above it that are missing.
  ///
  /// - Returns: false where it was there already, just so.
  package static func write(_ bytes: [UInt8], to path: String, mode: UInt32) throws(SystemError) -> Bool {
    var status = stat()
    if stat(path, &status) == 0, status.st_mode & 0o7777 == mode, status.st_size == bytes.count,
      content(of: path) == bytes
    {
      return false
    }
    if let slash = path.lastIndex(of: "/"), slash != path.startIndex {
      try Directory.make(String(path[..<slash]), mode: 0o755)
    }
    let new = "\(path).new"
    unlink(new)
    let flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC
    let file = Descriptor(owning: try checked("writing \(path)") { open(new, flags, mode) })
    do throws(SystemError) {
      var written = 0
      while written < bytes.count {
        // Safety: what is written lies within the array.
        written += try checked("writing \(path)") {
          bytes.withUnsafeBytes { Glibc.write(file.raw, $0.baseAddress! + written, bytes.count - written) }
        }
      }
      try checked("setting the mode of \(path)") { fchmod(file.raw, mode) }  // whatever the umask
      try checked("writing \(path)") { fsync(file.raw) }
      try checked("replacing \(path)") { rename(new, path) }
    } catch {
      unlink(new)
      throw error
    }
    return true
  }

  /// - Returns: false where there was none.
  package static func remove(_ path: String) throws(SystemError) -> Bool {
    if unlink(path) == 0 { return true }
    if errno == ENOENT || errno == ENOTDIR { return false }
    throw SystemError("removing \(path)", errorNumber: errno)
  }

  /// This program's own file; nil where it can't be read.
  package static func ownProgram() -> [UInt8]? { content(of: "/proc/self/exe") }

  /// Whether this program needs the Swift toolchain's libraries where it runs.
  package static var needsSwiftLibraries: Bool { readText("/proc/self/maps")?.contains("/libswiftCore.so") ?? false }

  private static func content(of path: String) -> [UInt8]? {
    let raw = open(path, O_RDONLY | O_CLOEXEC)
    return raw < 0 ? nil : contents(of: Descriptor(owning: raw))
  }
}
