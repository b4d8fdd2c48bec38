internal import Glibc
internal import Synchronization

/// The daemon's listening socket.
package final class SocketListener: Sendable {
  package let descriptor: Descriptor
  /// Given up for an instant when the process has no descriptor left, so that who knocks can be turned away.
  private let spare = Mutex<Descriptor?>(SocketListener.openSpare())

  package enum Failure: Error {
    /// Another daemon answers there.
    case alreadyServed(path: String)
    case system(SystemError)
  }

  /// - Parameters:
  ///   - mode: the socket file's access mode.
  ///   - group: a group's name or number to give the file to; nil leaves it.
  package init(path: String, mode: UInt32, group: String?) throws(Failure) {
    let isFree: Bool
    do throws(SystemError) {
      try Directory.make(of: path)
      isFree = try Self.replaceStale(path)
    } catch { throw .system(error) }
    guard isFree else { throw .alreadyServed(path: path) }
    do throws(SystemError) {
      descriptor = try SequencedSocket.makeSocket(flags: Int32(SOCK_NONBLOCK.rawValue))
      let raw = descriptor.raw
      // The mode counts from bind on, so that nobody gets in between: umask can only narrow it.
      fchmod(raw, mode)
      try withAddress(path, "making the socket \(path)") { bind(raw, $0, $1) }
      try checked("setting the mode of \(path)") { chmod(path, mode) }
      if let group { try Self.giveTo(group, path) }
      try checked("listening at \(path)") { listen(raw, Self.backlog) }
    } catch {
      unlink(path)  // it is ours, or was not made
      throw .system(error)
    }
  }

  /// One that listens already.
  init(adopting descriptor: Descriptor) { self.descriptor = descriptor }

  /// - Returns: nil when nobody is waiting to be let in.
  package func accept() throws(SystemError) -> SequencedSocket? {
    let raw = descriptor.raw
    let flags = Int32(SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
    let (result, errorNumber) = retryingInterrupts { accept4(raw, __SOCKADDR_ARG(__sockaddr__: nil), nil, flags) }
    if result >= 0 { return try SequencedSocket(accepted: Descriptor(owning: result)) }
    if errorNumber == EAGAIN || errorNumber == ECONNABORTED { return nil }
    if errorNumber == EMFILE || errorNumber == ENFILE { turnAway() }
    throw SystemError("accepting a connection", errorNumber: errorNumber)
  }

  /// Who waits to be let in would be reported as ready again and again.
  private func turnAway() {
    spare.withLock { spare in
      spare = nil
      let raw = accept4(descriptor.raw, __SOCKADDR_ARG(__sockaddr__: nil), nil, Int32(SOCK_CLOEXEC.rawValue))
      if raw >= 0 { close(raw) }
      spare = Self.openSpare()
    }
  }

  private static func openSpare() -> Descriptor? { attempt { try Descriptor(opening: "/dev/null", O_RDONLY) } }

  private static let backlog: Int32 = 128

  /// - Returns: false when somebody listens there.
  private static func replaceStale(_ path: String) throws(SystemError) -> Bool {
    var status = stat()
    guard lstat(path, &status) == 0 else { return true }
    guard status.st_mode & S_IFMT == S_IFSOCK else {
      throw SystemError("making the socket \(path), where something else is", errorNumber: EEXIST)
    }
    let probe = try SequencedSocket.makeSocket(flags: Int32(SOCK_NONBLOCK.rawValue))
    do throws(SystemError) {
      try withAddress(path, "looking who listens at \(path)") { connect(probe.raw, $0, $1) }
      return false
    } catch {
      if error.errorNumber == EAGAIN { return false }
      guard error.errorNumber == ECONNREFUSED || error.errorNumber == ENOENT else { throw error }
      unlink(path)
      return true
    }
  }

  /// Whether there is a group of this name, or number.
  package static func isKnown(group: String) -> Bool { number(of: group) != nil }

  private static func number(of group: String) -> UInt32? {
    UInt32(group) ?? getgrnam(group)?.pointee.gr_gid
  }

  private static func giveTo(_ group: String, _ path: String) throws(SystemError) {
    guard let number = number(of: group) else {
      throw SystemError("there is no group \(group)", errorNumber: EINVAL)
    }
    try checked("giving \(path) to the group \(group)") { chown(path, uid_t.max, number) }
  }
}
