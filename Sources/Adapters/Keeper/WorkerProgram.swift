internal import Glibc

/// The program that workers run.
struct WorkerProgram {
  /// For people, and as the program's name for itself.
  let path: String
  /// What is executed. Always the same file, whatever is put at its path: a worker that dies is followed by one that
  /// knows the same tables.
  let executable: String
  private let pin: Descriptor?

  private static let answerLimitNanoseconds: UInt64 = 2_000_000_000

  /// - Parameter executable: /proc/self/exe, or, in tests, a path.
  init(executable: String) {
    self.executable = executable
    path = Self.pathOnDisk(of: executable)
    pin = nil
  }

  private init(pinned path: String) throws(SystemError) {
    let file = try Descriptor(opening: path, O_RDONLY)
    self.path = path
    executable = "/proc/self/fd/\(file.raw)"
    pin = file
  }

  enum Check {
    case usable(WorkerProgram)
    case refused(String)
  }

  /// Looks at the program that is now at this one's path.
  ///
  /// - Parameter question: arguments to which it prints the version of what a worker leaves for the next one.
  func successor(question: [String]) -> Check {
    do throws(SystemError) {
      let next = try WorkerProgram(pinned: path)
      let child = try ChildProcess(executable: next.executable, arguments: question, keepsErrors: false)
      let line = child.readLine(deadlineNanoseconds: SystemClock().nowNanoseconds + Self.answerLimitNanoseconds)
      child.end(signal: SIGKILL)
      guard let line, let version = Int(line.trimmingLine) else {
        return .refused("\(path) does not say which layout of tables it knows")
      }
      guard version == Keeper.layoutVersion else {
        return .refused(
          "\(path) knows layout \(version) of the tables, and this daemon's are of \(Keeper.layoutVersion)")
      }
      return .usable(next)
    } catch { return .refused("\(error)") }
  }

  /// The link's target, without what proc(5) adds when the file there is another one by now.
  private static func pathOnDisk(of executable: String) -> String {
    guard let path = linkTarget(executable), path.hasPrefix("/") else { return executable }
    let suffix = " (deleted)"
    return path.hasSuffix(suffix) ? String(path.dropLast(suffix.count)) : path
  }
}
