internal import Glibc

/// Closing what clients sent. A socket may linger and a FUSE file may wait for its server: nobody of ours waits for them.
enum ForeignDescriptor {
  /// Threads that may hang in a close at a time; what is more waits for one of them.
  private static let threadLimit = 16

  private struct Disposal {
    var waiting: [Int32] = []
    var threads = 0
  }

  private static let disposal = Guarded(Disposal())

  static func close(_ raw: Int32) {
    guard !closesAtOnce(raw) else {
      _ = Glibc.close(raw)
      return
    }
    let needsThread = disposal.withLock { disposal in
      disposal.waiting.append(raw)
      guard disposal.threads < threadLimit else { return false }
      disposal.threads += 1
      return true
    }
    guard needsThread else { return }
    do throws(SystemError) { try Thread.runDetached(name: "close") { work() } } catch {
      // The next one to be closed tries again.
      disposal.withLock { $0.threads -= 1 }
    }
  }

  private static func work() {
    while true {
      let next = disposal.withLock { disposal -> Int32? in
        guard let raw = disposal.waiting.popLast() else {
          disposal.threads -= 1
          return nil
        }
        return raw
      }
      guard let next else { return }
      _ = Glibc.close(next)
    }
  }

  /// Kernel objects without a file behind them (userfaultfd, pidfd, ...) and files in memory. (Not by fstat, which asks the
  /// server of a file that has one.)
  private static func closesAtOnce(_ raw: Int32) -> Bool {
    fcntl(raw, F_GET_SEALS) >= 0 || linkTarget("/proc/self/fd/\(raw)")?.hasPrefix("anon_inode:") == true
  }
}
