internal import Glibc

/// What a worker has to know of its keeper, as the text of the inventory's end: words that a zero byte ends, each.
struct KeeperDescription: Equatable {
  let process: Int32
  /// The worker is to die with the keeper.
  let endsWorkerWithItself: Bool
  /// What is executed to become a keeper, and its words, its own name first.
  let executable: String
  let words: [String]

  init(process: Int32, endsWorkerWithItself: Bool, executable: String, words: [String]) {
    self.process = process
    self.endsWorkerWithItself = endsWorkerWithItself
    self.executable = executable
    self.words = words
  }

  init?(_ text: [UInt8]) {
    let parts = text.split(separator: 0, omittingEmptySubsequences: false).map { String(decoding: $0, as: UTF8.self) }
    guard parts.count >= 5, parts.last == "", let process = Int32(parts[0]) else { return nil }
    self.init(
      process: process, endsWorkerWithItself: parts[1] == "1", executable: parts[2],
      words: Array(parts[3...].dropLast()))
  }

  /// Executes the keeper's program in this process and passes on what is held.
  ///
  /// - Returns: only where that failed.
  func execute(passing held: [HeldKey: Descriptor]) -> SystemError {
    do throws(SystemError) {
      let list = try Inheritance.pass(held)
      // Safety: the words live until execv fails; where it does not, nothing of this process lives on.
      var words = words.map { strdup($0) } + [nil]
      execv(executable, &words)
      let failure = SystemError("executing \(executable)", errorNumber: errno)
      for word in words { free(word) }
      Inheritance.takeBack(held)
      withExtendedLifetime(list) {}
      return failure
    } catch { return error }
  }

  var text: [UInt8] {
    ([String(process), endsWorkerWithItself ? "1" : "0", executable] + words).flatMap { Array($0.utf8) + [0] }
  }
}
