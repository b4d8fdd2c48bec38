internal import Glibc

/// What takes privilege, done: by this process, or, where it lives in a sandbox, by its attendant.
package enum Privileges {
  private static let attendant = Guarded<Attendant?>(nil)

  /// From here on, that one does it all.
  package static func leave(to attendant: Attendant) { Self.attendant.withLock { $0 = attendant } }

  static func perform(
    _ call: PrivilegedCall, _ descriptors: [Descriptor] = [], operation: @autoclosure () -> String
  ) throws(SystemError) -> PrivilegedAnswer {
    if let attendant = attendant.withLock({ $0 }) {
      return try attendant.perform(call, descriptors, operation: operation())
    }
    do throws(SystemError) { return try PrivilegedWork(swapDirectory: nil).perform(call, descriptors) } catch {
      throw SystemError(operation(), errorNumber: error.errorNumber)
    }
  }

  /// The user that a socket file belongs to; nil where there is no socket at the path.
  package static func socketOwner(_ path: String) -> UInt32? {
    let call = PrivilegedCall(.socketOwner, text: path)
    return attempt { UInt32(truncatingIfNeeded: try perform(call, operation: "looking at \(path)").number) }
  }
}

/// What /proc says of a process.
struct ProcessFiles {
  /// 0: the directory /proc itself.
  let pid: Int32

  /// - Parameter name: of the file in its directory, such as "task/12/stat".
  /// - Throws: ENOENT or ESRCH where there is no such process; EACCES where we may not look.
  func bytes(_ name: String, limit: Int = 1 << 20, offset: UInt64 = 0) throws(SystemError) -> [UInt8] {
    let call = PrivilegedCall(.read, process: pid, limit: limit, offset: offset, text: name)
    return try Privileges.perform(call, operation: "reading /proc/\(pid)/\(name)").bytes
  }

  /// nil where it can't be read.
  func text(_ name: String, limit: Int = 1 << 20) -> String? {
    attempt { String(decoding: try bytes(name, limit: limit), as: UTF8.self) }
  }

  /// The entries of a directory that are numbers.
  func entries(_ name: String) throws(SystemError) -> [Int32] {
    let call = PrivilegedCall(.entries, process: pid, text: name)
    return try Privileges.perform(call, operation: "listing /proc/\(pid)/\(name)").bytes.numbers(Int32.self)
  }

  /// Their numbers.
  static func allProcesses() -> [Int32] { attempt { try ProcessFiles(pid: 0).entries("") } ?? [] }

  /// Of open files. Empty where they can't be read.
  func descriptors() -> [Int32] { attempt { try entries("fd") } ?? [] }

  /// Where a symbolic link points; nil where that can't be read.
  func link(_ name: String) -> String? {
    let call = PrivilegedCall(.link, process: pid, text: name)
    return attempt { String(decoding: try Privileges.perform(call, operation: "reading a link").bytes, as: UTF8.self) }
  }

  /// Its owner, as /proc shows it; root for a process that may not be looked into. nil where there is none.
  var user: UInt32? {
    let call = PrivilegedCall(.owner, process: pid)
    let number = attempt { try Privileges.perform(call, operation: "looking at /proc/\(pid)").number }
    return number.map { UInt32(truncatingIfNeeded: $0) }
  }
}

/// A task of a process, as /proc shows it.
struct ProcessTask: Equatable {
  enum Place: Int32 {
    case outsideOfRemoval = 0
    case insideRemoval = 1
    /// It is on a processor, or we may not look: nothing is told.
    case unknown = 2
  }

  let identifier: Int32
  /// T, or t under ptrace; or it is dead.
  var isStopped: Bool
  /// Z, X, or gone.
  var isDead: Bool
  var place = Place.unknown

  /// All tasks of a process; none when it is gone.
  static func all(of pid: Int32, withPlaces: Bool = false) throws(SystemError) -> [ProcessTask] {
    let call = PrivilegedCall(.tasks, process: pid, limit: withPlaces ? 1 : 0)
    let bytes = try Privileges.perform(call, operation: "looking at the tasks of process \(pid)").bytes
    let words = bytes.numbers(Int32.self)
    return zip(stride(from: 0, to: words.count, by: 2), stride(from: 1, to: words.count, by: 2)).map { first, second in
      let flags = words[second]
      return ProcessTask(
        identifier: words[first], isStopped: flags & 1 != 0, isDead: flags & 2 != 0,
        place: Place(rawValue: flags >> 2) ?? .unknown)
    }
  }

  var bytes: [UInt8] { identifier.bytes + (Int32(isStopped ? 1 : 0) | (isDead ? 2 : 0) | place.rawValue << 2).bytes }
}
