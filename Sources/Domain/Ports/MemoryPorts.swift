/// The memfds behind a tenant's regions, addressed by tenant page. Every range lies in one region.
package protocol GuestMemory: Sendable {
  associatedtype Buffer: ReadBuffer
  /// The first page with data in `range` (SEEK_DATA alone, which is cheap wherever data is dense).
  func firstData(in range: PageRange) throws(PortFailure) -> PageIndex?
  /// The first run of pages with data (SEEK_DATA, SEEK_HOLE) in `range`, cut at its end; nil where there is none.
  /// Costs a walk over the whole run, also over what lies behind `range`.
  func nextData(in range: PageRange) throws(PortFailure) -> PageRange?
  /// Reads pages by `pread` (which fills no hole) and writes them to the same pages of staging memory.
  ///
  /// - Returns: those whose copies are zeros, in order.
  func copyToStaging(_ pages: PageRange) throws(PortFailure) -> [PageIndex]
  /// Gives the pages' memory back: they read as missing in every process afterwards, unless somebody has pinned them.
  func punch(_ pages: PageRange) throws(PortFailure)
  /// Writes copies over the guest's pages, past every mapping (`pwrite`).
  func restore(_ pages: PageRange, from source: PageSource<Buffer>) throws(PortFailure)
}

extension GuestMemory {
  package func firstData(in range: PageRange) throws(PortFailure) -> PageIndex? { try nextData(in: range)?.lowerBound }
}

/// Where moved pages wait: page p's copy lies at page p. Only pages that the ledger says are there may be looked at.
package protocol StagingMemory: Sendable {
  associatedtype Content: StagedContent
  associatedtype Buffer: ReadBuffer
  /// Reads copies, one after the other. One that is given back meanwhile may read as anything.
  func examine(_ pages: PageRange, _ body: (PageIndex, Content) -> Void) throws(PortFailure)
  /// Lends a buffer with copies of these pages, of as many as fit, from the first on. What has no copy reads as anything.
  func withCopies<Result>(
    of pages: PageRange, _ body: (Buffer, PageRange) throws(PortFailure) -> Result
  ) throws(PortFailure) -> Result
  /// Sees to it that so many pages more may be copied within the limit of all tenants' staging memory; what was reserved
  /// before and not used is let go. False, and nothing is reserved, where the limit does not allow it.
  func reserve(_ pages: Int) -> Bool
  /// The next copies in `range` that take memory, needed or not.
  func nextCopies(in range: PageRange) throws(PortFailure) -> PageRange?
  /// Gives the copies' memory back.
  func release(_ pages: PageRange) throws(PortFailure)
}

/// What a copy holds.
package protocol StagedContent {
  var isZero: Bool { get }
  var checksum: PageChecksum { get }
}

/// A tenant's swap file.
package protocol SwapFile: Sendable {
  associatedtype Buffer: ReadBuffer
  /// Takes the disk space that `write` to these slots needs, which comes next, or the slots are freed. `ENOSPC` also where
  /// the configured floor of free disk space, or limit of all tenants' swap files, would be broken.
  func allocate(_ slots: SlotRange) throws(PortFailure)
  /// Writes staged pages, in order, to consecutive slots, all of them or failure; a short write is gone on with. It may go on,
  /// and fail, until `makeDurable`, whether this throws or not.
  ///
  /// - Returns: the checksum of what was written for each page.
  func write(_ pages: [PageIndex], to slots: SlotRange) throws(PortFailure) -> [PageChecksum]
  /// Returns when no write goes on any more, and everything written before would survive the loss of the page cache. Where
  /// it throws, nothing is sure that was written since it last returned.
  func makeDurable() throws(PortFailure)
  /// Fills the buffer's first pages; a short read is a failure (EIO).
  func read(_ slots: SlotRange, into buffer: Buffer) throws(PortFailure)
  /// Gives the disk the slots' space back; they read as zeros then.
  func punch(_ slots: SlotRange) throws(PortFailure)
  /// Empties the file at once.
  func truncate() throws(PortFailure)
}

/// Locked memory into which slots are read, and from which they are installed once they are found right.
package protocol ReadBuffer: Sendable {
  var capacityPages: Int { get }
  func checksum(at index: Int) -> PageChecksum
}

/// Reads slots ahead of their use, in the background; completions may come in any order. For two threads at a time.
package protocol ReadAhead: Sendable {
  associatedtype Buffer: ReadBuffer
  /// A free buffer within the memory-locking budget; nil while all are in use.
  func takeBuffer() -> Buffer?
  /// Fills the buffer's first pages with the run's slots. What comes of those that are not wanted does not matter.
  func start(_ run: FileRun, into buffer: Buffer)
  /// Waits for a started read; nil when none is under way that nobody else waits for.
  func nextCompletion() -> ReadCompletion<Buffer>?
  func giveBack(_ buffer: Buffer)
  /// Nothing is under way, nobody else is here, and nothing is to come soon: threads and memory are given back.
  func rest()
  /// One more page, always there, for reading a doubtful slot again by itself.
  var spareBuffer: Buffer { get }
}

package struct ReadCompletion<Buffer: ReadBuffer>: Sendable {
  package let run: FileRun
  package let buffer: Buffer
  package let failure: PortFailure?

  package init(run: FileRun, buffer: Buffer, failure: PortFailure?) {
    self.run = run
    self.buffer = buffer
    self.failure = failure
  }
}
