internal import Glibc

// MARK: Reading and writing

/// What a file holds from an offset on: so many bytes, or all until its end. (Files of /proc and /sys tell their size only by
/// being read.)
func readAll(
  _ file: Descriptor, limit: Int = .max, from offset: Int = 0, operation: @autoclosure () -> String
) throws(SystemError) -> [UInt8] {
  var bytes: [UInt8] = []
  var chunk = [UInt8](repeating: 0, count: min(max(limit, 1), 16 << 10))
  while bytes.count < limit {
    let wanted = min(chunk.count, limit - bytes.count)
    let count = try checked(operation()) { pread(file.raw, &chunk, wanted, offset + bytes.count) }
    if count == 0 { break }
    bytes += chunk[0..<count]
  }
  return bytes
}

func readAll(_ path: String, limit: Int, from offset: Int = 0) throws(SystemError) -> [UInt8] {
  try readAll(try Descriptor(opening: path, O_RDONLY), limit: limit, from: offset, operation: "reading \(path)")
}

/// A small file; nil where it can't be read.
func readBytes(_ path: String, limit: Int = 1 << 20) -> [UInt8]? { attempt { try readAll(path, limit: limit) } }

func readText(_ path: String, limit: Int = 1 << 20) -> String? {
  readBytes(path, limit: limit).map { String(decoding: $0, as: UTF8.self) }
}

/// All that a memfd holds; nil for what can't be read.
func contents(of file: Descriptor) -> [UInt8]? { attempt { try readAll(file, operation: "reading a memfd") } }

/// Writes all of it where the descriptor stands.
func writeAll(_ bytes: [UInt8], to raw: Int32, operation: @autoclosure () -> String) throws(SystemError) {
  var left = bytes[...]
  while !left.isEmpty {
    // Safety: what is written lies within the array.
    let count = try checked(operation()) { left.withUnsafeBytes { write(raw, $0.baseAddress, $0.count) } }
    guard count > 0 else { throw SystemError(operation(), errorNumber: EIO) }
    left = left.dropFirst(count)
  }
}

extension StringProtocol {
  var trimmingLine: String {
    String(prefix { $0 != "\n" }).split(separator: " ", omittingEmptySubsequences: true).joined(separator: " ")
  }
}

// MARK: Directories and links

/// The entries of a directory of /proc that are numbers.
///
/// - Returns: nil where it can't be read; errno tells why.
func numberedEntries(of path: String) -> [Int32]? {
  guard let directory = opendir(path) else { return nil }
  defer { closedir(directory) }
  var found: [Int32] = []
  while let entry = readdir(directory) {
    // Safety: d_name is a C string inside the entry, which lives until the next readdir.
    let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    if let number = Int32(name) { found.append(number) }
  }
  return found
}

/// Where a symbolic link points; nil where that can't be read, and errno tells why.
func linkTarget(_ path: String) -> String? {
  var buffer = [CChar](repeating: 0, count: Int(PATH_MAX))
  let count = readlink(path, &buffer, buffer.count)
  return count > 0 ? String(decoding: buffer[0..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self) : nil
}

package enum Directory {
  /// Makes the directory, and those above it that are missing.
  ///
  /// - Returns: false where it was there.
  @discardableResult
  package static func make(_ path: String, mode: UInt32) throws(SystemError) -> Bool {
    if mkdir(path, mode) == 0 { return true }
    if errno == EEXIST { return false }
    guard errno == ENOENT, let above = parent(of: path) else {
      throw SystemError("making the directory \(path)", errorNumber: errno)
    }
    try make(above, mode: mode)
    if mkdir(path, mode) != 0 && errno != EEXIST {
      throw SystemError("making the directory \(path)", errorNumber: errno)
    }
    return true
  }

  /// Makes the directory that the file is in.
  static func make(of file: String) throws(SystemError) {
    if let above = parent(of: file) { try make(above, mode: 0o755) }
  }

  private static func parent(of path: String) -> String? {
    guard let slash = path.lastIndex(of: "/"), slash != path.startIndex else { return nil }
    return String(path[..<slash])
  }

  /// A new directory of our own under $TMPDIR or /tmp.
  package static func makeTemporary() throws(SystemError) -> String {
    // mkdtemp(3) wants six of them, and replaces them.
    let placeholder = String(repeating: "X", count: 6)
    var template = Array("\(Machine.environment("TMPDIR") ?? "/tmp")/swap-monitor-\(placeholder)".utf8CString)
    guard mkdtemp(&template) != nil else { throw SystemError("making a temporary directory", errorNumber: errno) }
    return String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  package static func remove(_ path: String) { rmdir(path) }
}

// MARK: Files with a name

package enum File {
  /// Writes a file anew.
  package static func write(_ text: String, to path: String) throws(SystemError) {
    let flags = O_WRONLY | O_CREAT | O_TRUNC
    let file = try Descriptor(opening: path, flags, mode: 0o666, operation: "writing \(path)")
    try writeAll(Array(text.utf8), to: file.raw, operation: "writing \(path)")
  }

  /// Sees whether it can be written, and makes it where it is not there; what it holds stays.
  package static func checkWritable(_ path: String) throws(SystemError) {
    _ = try Descriptor(opening: path, O_WRONLY | O_CREAT, mode: 0o666, operation: "writing \(path)")
  }

  /// Puts a file in place whole, and makes the directories above it; where that fails, it stays as it was.
  package static func replace(_ path: String, with bytes: [UInt8], mode: UInt32) throws(SystemError) {
    try Directory.make(of: path)
    let new = "\(path).new"
    unlink(new)
    let file = try Descriptor(opening: new, O_WRONLY | O_CREAT | O_EXCL, mode: mode, operation: "writing \(path)")
    do throws(SystemError) {
      try writeAll(bytes, to: file.raw, operation: "writing \(path)")
      try checked("setting the mode of \(path)") { fchmod(file.raw, mode) }  // whatever the umask
      try checked("writing \(path)") { fsync(file.raw) }
      try checked("replacing \(path)") { rename(new, path) }
    } catch {
      unlink(new)
      throw error
    }
  }

  /// Whether it has just these bytes and this mode.
  package static func isThere(_ path: String, with bytes: [UInt8], mode: UInt32) -> Bool {
    var status = stat()
    return stat(path, &status) == 0 && status.st_mode & 0o7777 == mode && status.st_size == bytes.count
      && readBytes(path, limit: .max) == bytes
  }

  package static func isThere(_ path: String) -> Bool {
    var status = stat()
    return lstat(path, &status) == 0
  }

  /// Where there is one.
  package static func remove(_ path: String) throws(SystemError) {
    if unlink(path) == 0 || errno == ENOENT || errno == ENOTDIR { return }
    throw SystemError("removing \(path)", errorNumber: errno)
  }

  /// This program's own file; nil where it can't be read.
  package static func ownProgram() -> [UInt8]? { readBytes("/proc/self/exe", limit: .max) }

  /// Whether this program needs the Swift toolchain's libraries where it runs.
  package static var needsSwiftLibraries: Bool { readText("/proc/self/maps")?.contains("/libswiftCore.so") ?? false }
}

/// A file's pages in memory, and in the kernel's swap, by one call that waits for no lock (cachestat(2), Linux 6.5); nil where
/// there is none.
///
/// - Parameter bytes: 0 is up to the file's end.
func cachedPages(_ file: Descriptor, offset: Int = 0, bytes: Int = 0) -> (cached: Int, evicted: Int)? {
  let range = [UInt64(offset), UInt64(bytes)]  // struct cachestat_range of <linux/mman.h>
  // struct cachestat: cached, dirty, under write-back, evicted, lately evicted
  var counts = [UInt64](repeating: 0, count: 5)
  // Safety: the kernel reads two words and writes five.
  let result = range.withUnsafeBytes { range in
    counts.withUnsafeMutableBytes { counts in
      c_syscall(
        Linux.SYS_cachestat, Int(file.raw), Int(bitPattern: range.baseAddress), Int(bitPattern: counts.baseAddress), 0,
        0)
    }
  }
  return result == 0 ? (Int(counts[0]), Int(counts[3])) : nil
}
