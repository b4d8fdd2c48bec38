internal import Glibc
internal import Synchronization

/// What the writers of all processes tell of themselves, in memory that they share with who watches them: it goes on being
/// read while they are stopped, hang or die.
package final class TortureBoard: Sendable {
  /// What is told of each writer.
  package enum Field: Int {
    case increments, removals
    /// Pages compared at the end.
    case checkedPages
    /// Words that were not what they had to be, and the first one of them.
    case lost, lostPage, lostExpected, lostFound
    /// When the last piece of work that is done was begun, and the longest time for one, in nanoseconds.
    case lastBegin, longest
    /// Not zero while it has nothing to do.
    case rests
    /// For how long stalls were noted, in nanoseconds.
    case measured
  }

  package let file: Descriptor
  private let mapping: MemoryMapping
  private static let wordsPerWriter = 16  // two cache lines
  private static let histogramStart = wordsPerWriter * (TortureLayout.writers + 1)
  private static let bytes = (histogramStart + TortureLayout.writers * StallHistogram.buckets) * 8

  /// A new one.
  package init() throws(SystemError) {
    file = try makeMemoryFile("swap-monitor-torture-board", bytes: Self.bytes)
    mapping = try MemoryMapping(of: file, bytes: Self.bytes, writable: true, operation: "mapping the board")
  }

  /// - Parameter path: leads to another process's: /proc/PID/fd/NUMBER.
  package init(path: String) throws(SystemError) {
    file = try Descriptor(opening: path, O_RDWR, operation: "opening the board")
    mapping = try MemoryMapping(of: file, bytes: Self.bytes, writable: true, operation: "mapping the board")
  }

  package subscript(_ field: Field, writer: Int) -> UInt64 {
    get { word(field, writer).pointee.load(ordering: .relaxed) }
    set { word(field, writer).pointee.store(newValue, ordering: .relaxed) }
  }

  package func sum(_ field: Field) -> UInt64 { (0..<TortureLayout.writers).reduce(0) { $0 + self[field, $1] } }

  /// Takes the longest time that a piece of work took any writer since this was last asked.
  package func takeLongest() -> UInt64 {
    (0..<TortureLayout.writers).map { word(.longest, $0).pointee.exchange(0, ordering: .relaxed) }.max() ?? 0
  }

  /// Grows as a move begins, and as it ends: odd meanwhile.
  package var moves: UInt64 {
    get { self[.measured, TortureLayout.writers] }
    set { self[.measured, TortureLayout.writers] = newValue }
  }

  /// A write was so late, of so long since the one before.
  func note(stall nanoseconds: UInt64, of time: UInt64, writer: Int) {
    self[.measured, writer] += time
    if nanoseconds > self[.longest, writer] { self[.longest, writer] = nanoseconds }
    word(Self.histogramStart + writer * StallHistogram.buckets + StallHistogram.bucket(of: nanoseconds))
      .pointee.add(1, ordering: .relaxed)
  }

  /// What a write has to wait while memory moves, in all but this share of the moments.
  package func stall(exceededBy share: Double) -> UInt64 {
    var stalls = StallHistogram()
    for index in 0..<TortureLayout.writers * StallHistogram.buckets {
      stalls.add(
        word(Self.histogramStart + index).pointee.load(ordering: .relaxed), in: index % StallHistogram.buckets)
    }
    return stalls.wait(exceededBy: share, of: sum(.measured))
  }

  /// The writers shall stop. Their work is acquired by who joins them.
  package var isOver: Bool {
    get { self[.increments, TortureLayout.writers] != 0 }
    set { self[.increments, TortureLayout.writers] = newValue ? 1 : 0 }
  }

  private func word(_ field: Field, _ writer: Int) -> UnsafeMutablePointer<Atomic<UInt64>> {
    word(writer * Self.wordsPerWriter + field.rawValue)
  }

  private func word(_ index: Int) -> UnsafeMutablePointer<Atomic<UInt64>> {
    // Safety: inside the mapping, which is zeros at first and used through these alone.
    (mapping.address + index * 8).assumingMemoryBound(to: Atomic<UInt64>.self)
  }
}
