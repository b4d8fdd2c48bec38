internal import Domain

/// Writes to a swap file what has been gathered in buffers, while others are filled: the disk and the processors work at the
/// same time. What goes wrong is told by `finish`.
final class WriteBehind: Sendable {
  private struct Piece: Sendable {
    let buffer: LockedBuffer
    let pages: Int
    /// In the file, in bytes.
    let offset: Int
  }

  private typealias Outcome = (buffer: LockedBuffer, failure: PortFailure?)

  private let buffers: CopyBuffers
  private let threads: DiskThreads<Piece, Outcome>
  private let failure = Guarded<PortFailure?>(nil)

  /// A disk is kept at work by two requests; a third waits for its turn.
  private static let (writers, mostPieces) = (2, 3)

  init(
    buffers: CopyBuffers,
    _ write: @escaping @Sendable (_ bytes: UnsafeRawBufferPointer, _ offset: Int) throws(PortFailure) -> Void
  ) {
    self.buffers = buffers
    threads = DiskThreads(name: "write-behind", count: Self.writers) { piece in
      do throws(PortFailure) {
        try write(UnsafeRawBufferPointer(piece.buffer.bytes(piece.pages)), piece.offset)
        return (piece.buffer, nil)
      } catch { return (piece.buffer, error) }
    }
  }

  /// Has pages written, once a body has filled them in.
  ///
  /// - Parameters:
  ///   - pages: how many at most; as many are written as the body says.
  ///   - body: it may be lent a shorter buffer.
  /// - Throws: what the body throws. Where a write has failed already, that.
  /// - Returns: how many will be written.
  func write(
    pages: Int, at offset: Int, _ body: (LockedBuffer) throws(PortFailure) -> Int
  ) throws(PortFailure) -> Int {
    while threads.underWay >= Self.mostPieces { settleOne() }
    if let failure = failure.withLock({ $0 }) { throw failure }
    let buffer = try buffers.take(pages: pages, for: .writeSwapFile)
    do throws(PortFailure) {
      let count = try body(buffer)
      threads.start(Piece(buffer: buffer, pages: count, offset: offset))
      return count
    } catch {
      buffers.giveBack(buffer)
      throw error
    }
  }

  /// Waits for all writes.
  ///
  /// - Throws: the first failure since this was last called.
  func finish() throws(PortFailure) {
    while settleOne() {}
    let first = failure.withLock { failure in
      defer { failure = nil }
      return failure
    }
    if let first { throw first }
  }

  /// Lets the threads end; the next write starts them anew.
  func rest() { threads.end() }

  @discardableResult private func settleOne() -> Bool {
    guard let outcome = threads.next() else { return false }
    buffers.giveBack(outcome.buffer)
    if let failed = outcome.failure { failure.withLock { $0 = $0 ?? failed } }
    return true
  }
}
