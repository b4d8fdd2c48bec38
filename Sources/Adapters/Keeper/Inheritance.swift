internal import Glibc

/// Descriptors that a process passes on to the program that it executes, and those that a service manager passes to it.
enum Inheritance {
  /// "NUMBER PROCESS": the descriptor of the list, and whom it is meant for; children see the variable too.
  private static let variable = "SWAP_MONITOR_HELD"
  private static let entryBytes = HeldKey.byteCount + 4

  /// Executes a program in this process, which finds by `passed` what is held.
  ///
  /// - Parameter words: its own name first.
  /// - Returns: only where that failed.
  static func execute(_ executable: String, _ words: [String], passing held: [HeldKey: Descriptor]) -> SystemError {
    do throws(SystemError) {
      let list = try pass(held)
      // Safety: the words live until execv fails; where it does not, nothing of this process lives on.
      var words = words.map { strdup($0) } + [nil]
      execv(executable, &words)
      let failure = SystemError("executing \(executable)", errorNumber: errno)
      for word in words { free(word) }
      unsetenv(variable)
      for descriptor in held.values { descriptor.setClosesOnExecute(true) }
      withExtendedLifetime(list) {}
      return failure
    } catch { return error }
  }

  /// Has the descriptors stay open, and the next program told.
  ///
  /// - Returns: the list, to be kept until the program is executed.
  static func pass(_ held: [HeldKey: Descriptor]) throws(SystemError) -> Descriptor {
    let list = try makeMemoryFile("swap-monitor-held", containing: held.flatMap { $0.bytes + $1.raw.bytes })
    // Safety: the caller is about to execute; setenv and another thread's getenv must not meet (setenv(3)).
    setenv(variable, "\(list.raw) \(getpid())", 1)
    for descriptor in Array(held.values) + [list] { descriptor.setClosesOnExecute(false) }
    return list
  }

  /// What `pass` has left, once.
  static func passed() -> [HeldKey: Descriptor] {
    let words = (Machine.environment(variable) ?? "").split(separator: " ").map { Int32($0) }
    unsetenv(variable)
    guard words.count == 2, words[1] == getpid(), let raw = words[0], let list = adopt(raw) else { return [:] }
    var held: [HeldKey: Descriptor] = [:]
    let bytes = contents(of: list) ?? []
    for offset in stride(from: 0, to: bytes.count - entryBytes + 1, by: entryBytes) {
      held[HeldKey(in: bytes, at: offset)] = adopt(bytes.number(at: offset + HeldKey.byteCount))
    }
    return held
  }

  /// What a service manager has opened or kept for us (sd_listen_fds(3)), once.
  ///
  /// - Parameters:
  ///   - first: the number that the first one has.
  ///   - environment: the value of a variable.
  /// - Returns: also whether the listening socket, and so its file, is the service manager's.
  static func fromServiceManager(
    first: Int32 = 3, environment: (String) -> String? = { Machine.environment($0) }
  ) -> (held: [HeldKey: Descriptor], isActivated: Bool) {
    let process = environment("LISTEN_PID").flatMap { Int32($0) }
    let count = environment("LISTEN_FDS").flatMap { Int32($0) } ?? 0
    let names = (environment("LISTEN_FDNAMES") ?? "").split(separator: ":", omittingEmptySubsequences: false)
    for variable in ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"] { unsetenv(variable) }
    guard process == getpid(), (1...1_000_000).contains(count) else { return ([:], false) }
    var held: [HeldKey: Descriptor] = [:]
    var activated: Descriptor?
    for number in 0..<count {
      guard let descriptor = adopt(first + number) else { continue }
      if Int(number) < names.count, let key = HeldKey(name: names[Int(number)]) {
        held[key] = descriptor
      } else if isListening(descriptor) {
        // Who accepts is told by epoll, and must not be held up when a client has gone away again.
        _ = fcntl(descriptor.raw, F_SETFL, fcntl(descriptor.raw, F_GETFL) | O_NONBLOCK)
        activated = descriptor
      }
    }
    // Rather than one that was stored: the unit may have been started anew since.
    if let activated { held[.activatedSocket] = activated }
    return (held, activated != nil)
  }

  private static func adopt(_ raw: Int32) -> Descriptor? {
    fcntl(raw, F_SETFD, FD_CLOEXEC) == 0 ? Descriptor(owning: raw) : nil
  }

  private static func isListening(_ descriptor: Descriptor) -> Bool {
    func option(_ name: Int32) -> Int32? {
      var value: Int32 = 0
      var length = socklen_t(MemoryLayout<Int32>.size)
      return getsockopt(descriptor.raw, SOL_SOCKET, name, &value, &length) == 0 ? value : nil
    }
    return option(SO_ACCEPTCONN) == 1 && option(SO_DOMAIN) == AF_UNIX
      && option(SO_TYPE) == Int32(SOCK_SEQPACKET.rawValue)
  }
}
