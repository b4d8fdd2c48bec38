package import Domain
internal import Glibc

/// Looks in a process for memory that looks like a virtual machine's: shared, writable mappings of memfds.
package struct GuestMemorySearch: Sendable {
  /// A mapping (neighbouring ones of one file count as one), and whether it can be a tenant's region.
  package struct Candidate: Sendable {
    package let address: UInt64
    package let size: UInt64
    package let offset: UInt64
    /// The memfd's, as /proc shows it.
    package let name: String
    /// Where it may be opened.
    package internal(set) var file: Descriptor?
    /// Why it can't be taken, or is not unless it is asked for.
    package internal(set) var complaint: String?
    package internal(set) var isSmall = false
    fileprivate let identity: FileIdentity
  }

  /// Guest RAM is larger: what is smaller (firmware, device buffers) is taken only if it is asked for.
  package static let leastBytes: UInt64 = 16 << 20

  package let candidates: [Candidate]

  package init(_ process: ProcessHandle, geometry: PageGeometry) throws(AttachFailure) {
    guard let maps = ProcessMaps(pid: process.pid) else {
      throw process.isAlive
        ? AttachFailure(
          .notPermitted, "the mappings of process \(process.pid) can't be read: the daemon must be allowed to trace it")
        : AttachFailure(.gone, "process \(process.pid) has died")
    }
    var found: [Candidate] = []
    for mapping in maps.mappings where mapping.isShared && mapping.isWritable && mapping.path.hasPrefix(Self.prefix) {
      let identity = FileIdentity(device: mapping.device, inode: mapping.inode)
      let size = UInt64(mapping.addresses.count)
      if let last = found.last, last.identity == identity, last.address + last.size == mapping.addresses.lowerBound,
        last.offset + last.size == mapping.offset
      {
        found[found.count - 1] = Candidate(
          address: last.address, size: last.size + size, offset: last.offset, name: last.name, file: last.file,
          identity: identity)
      } else {
        found.append(
          Candidate(
            address: mapping.addresses.lowerBound, size: size, offset: mapping.offset, name: Self.name(mapping.path),
            file: Self.open(mapping, of: process), identity: identity))
      }
    }
    for index in found.indices { Self.judge(&found, index, geometry) }
    candidates = found
  }

  private static let prefix = "/memfd:"

  private static func name(_ path: String) -> String {
    let name = path.dropFirst(prefix.count)
    return String(name.hasSuffix(" (deleted)") ? name.dropLast(10) : name)
  }

  private static func judge(_ found: inout [Candidate], _ index: Int, _ geometry: PageGeometry) {
    let candidate = found[index]
    let file = candidate.offset..<(candidate.offset + candidate.size)
    found[index].isSmall = candidate.size < leastBytes
    if found.indices.contains(where: {
      $0 != index && found[$0].identity == candidate.identity
        && file.overlaps(found[$0].offset..<(found[$0].offset + found[$0].size))
    }) {
      found[index].complaint = "is mapped twice in the process"
      return
    }
    guard let descriptor = candidate.file else {
      found[index].complaint = "can't be opened through /proc (that takes CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE)"
      return
    }
    do throws(GuestFileInspection.Refusal) {
      _ = try GuestFileInspection.inspect(descriptor, name: "the memfd", geometry: geometry)
    } catch { found[index].complaint = error.message }
  }

  /// By the mapping itself, which takes privilege; else by a descriptor that the process has of the file.
  private static func open(_ mapping: ProcessMaps.Mapping, of process: ProcessHandle) -> Descriptor? {
    let (start, end) = (mapping.addresses.lowerBound, mapping.addresses.upperBound)
    let path = "/proc/\(process.pid)/map_files/\(String(start, radix: 16))-\(String(end, radix: 16))"
    if let file = open(path, as: mapping) { return file }
    for number in numberedEntries(of: "/proc/\(process.pid)/fd") ?? [] {
      if let file = open("/proc/\(process.pid)/fd/\(number)", as: mapping) { return file }
    }
    return nil
  }

  private static func open(_ path: String, as mapping: ProcessMaps.Mapping) -> Descriptor? {
    var status = stat()
    guard stat(path, &status) == 0, UInt64(status.st_ino) == mapping.inode, UInt64(status.st_dev) == mapping.device
    else { return nil }
    return attempt { try Descriptor(opening: path, O_RDWR | O_NONBLOCK) }
  }
}
