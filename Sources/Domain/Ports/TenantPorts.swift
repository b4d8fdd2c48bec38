/// What one message of a userfaultfd says.
package enum MemoryEvent: Equatable, Sendable {
  /// A thread waits for the page at this address.
  case missing(address: UInt64)
  /// A thread waits for write protection to end. It is woken when that is lifted, so nothing is to be done.
  case writeProtected(address: UInt64)
  /// A range is about to be removed; the remover goes on, and removes it, after this has been read.
  case removed(start: UInt64, end: UInt64)
  /// The process has forked: the child, which maps what it maps, runs as soon as this has been read. Its userfaultfd is to be
  /// had by `takeChild`.
  case forked(child: Int32)
  /// The process has moved a mapping (mremap).
  case remapped(from: UInt64, to: UInt64, bytes: UInt64)
  case unmapped(start: UInt64, end: UInt64)
  /// Something that was not asked for.
  case other
}

/// How far an install got, and why it did not get further.
package struct InstallResult: Equatable, Sendable {
  package enum Stop: Equatable, Sendable {
    /// The next page has content of the guest's own already (EEXIST).
    case alreadyPresent
    /// An unread event stands in the way (EAGAIN): try again after the next read.
    case eventPending
    /// No memory for the page (ENOMEM): try again later.
    case outOfMemory
    /// The process's memory is no more (ESRCH).
    case processGone
    case failed(errorNumber: Int32)
  }

  package let installed: Int
  /// nil: everything was installed.
  package let stop: Stop?

  package init(installed: Int, stop: Stop? = nil) {
    self.installed = installed
    self.stop = stop
  }
}

/// Where an installed page's content comes from.
package enum PageSource<Buffer: ReadBuffer> {
  case staging
  /// Consecutive pages of a buffer, from this index.
  case buffer(Buffer, index: Int)
}

/// A bounded number of events, in memory that survives the worker until they are all applied.
package protocol EventBatch {
  var count: Int { get }
  func event(at index: Int) -> MemoryEvent
  /// All events have been applied.
  func clear()
}

/// The outcome of changing the protection of a range.
package enum ProtectionResult: Equatable, Sendable {
  case done
  case eventPending
  case processGone
}

/// One process that maps the tenant's memory, by its userfaultfd: what brings pages in and wakes who waits for them.
package protocol Userfault: Sendable {
  associatedtype Buffer: ReadBuffer
  associatedtype Batch: EventBatch
  /// Reads what is there, without waiting. The batch must have been cleared.
  func readEvents() throws(PortFailure) -> Batch
  /// What an earlier worker had read, and may not have applied.
  var leftEvents: Batch { get }
  /// Installs consecutive pages of one region and wakes who waits for them.
  func install(_ pages: PageRange, from source: PageSource<Buffer>) -> InstallResult
  /// Installs a zero page and wakes who waits for it.
  func installZero(_ page: PageIndex) -> InstallResult
  func wake(_ pages: PageRange)
}

/// Pages of one process that fail at every access.
package protocol Poison: Sendable {
  /// Makes every access to a hole fail with SIGBUS, and wakes who waits for it. It outlives the page's removal.
  func poison(_ page: PageIndex) -> InstallResult
  /// Ends that, where it is so: the process sees what the guest memory holds, a hole becoming zeros.
  func heal(_ page: PageIndex) -> InstallResult
}

/// A process's side of monitoring: its address ranges at its userfaultfd, and its tasks.
package protocol MonitoredProcess: Userfault, Poison {
  /// A sign that the kernel or a device may write into its pages past every mapping (O_DIRECT, AIO, io_uring, vhost, VFIO):
  /// what it has in flight while a page is moved would be lost. nil where none is seen.
  var kernelAccessSign: String? { get }
  /// Where it maps the regions. Changed (`follow`) under the exclusive gate only.
  var addresses: AddressMap { get }
  /// It has moved or unmapped a part: changes `addresses`, and wakes who waited at the old ones.
  func follow(_ event: MemoryEvent)
  /// A child that it has forked, registered and protected as it is itself; nil where that can't be served.
  func takeChild(_ number: Int32) -> Self?
  /// False once the process is dead.
  var isAlive: Bool { get }
  /// Registers every region for missing pages and write protection; where one fails, none stays registered. Does nothing
  /// where all are registered.
  func register() throws(PortFailure)
  /// Unregisters every region, and wakes everybody who waits there. Events may still come: they are read as ever.
  func unregister() throws(PortFailure)
  func protect(_ pages: PageRange) throws(PortFailure) -> ProtectionResult
  /// Lifts protection and wakes who waits for that.
  func unprotect(_ pages: PageRange) throws(PortFailure) -> ProtectionResult
}

/// A mapping of the tenant's memory that nobody has announced: touching a hole there would fill it with zeros, for good.
package struct StrangeMapping: Equatable, Sendable {
  package let process: Int32
  /// What people call the process.
  package let name: String
  /// Pages have been touched through it.
  package let isUsed: Bool
  /// The process can't be looked into, so there may be none.
  package let isGuess: Bool

  package init(process: Int32, name: String, isUsed: Bool, isGuess: Bool = false) {
    self.process = process
    self.name = name
    self.isUsed = isUsed
    self.isGuess = isGuess
  }
}

/// Stops and continues the tenant's processes.
package protocol Freezer: Sendable {
  /// Asks every process to stop that is not stopped already. Ones stopped by others are left so by `resume`.
  func requestStop() throws(PortFailure)
  /// Whether every task of every process is stopped (or gone).
  func allStopped() throws(PortFailure) -> Bool
  /// Lets the processes go on that `requestStop` stopped. Never fails: one that can't be told is dead.
  func resume()
  /// Looks at every task once, and tells whether each has been seen outside of madvise since `beginLook`.
  func beginLook()
  func look() throws(PortFailure) -> Bool
}

/// Everything of one tenant that the outside provides.
package protocol TenantPorts: Sendable {
  associatedtype Table: RecordTable
  associatedtype Lock: LedgerLock
  associatedtype TenantGate: Gate
  associatedtype Guest: GuestMemory where Guest.Buffer == File.Buffer
  associatedtype Staging: StagingMemory where Staging.Buffer == File.Buffer
  associatedtype File: SwapFile
  associatedtype Ahead: ReadAhead where Ahead.Buffer == File.Buffer
  associatedtype Process: MonitoredProcess where Process.Buffer == File.Buffer
  associatedtype Stopper: Freezer
  associatedtype Headroom: MemoryHeadroom
  associatedtype Hands: Helper
  associatedtype Time: Clock

  var table: Table { get }
  var lock: Lock { get }
  var gate: TenantGate { get }
  var guest: Guest { get }
  var staging: Staging { get }
  var file: File { get }
  var readAhead: Ahead { get }
  /// Those that map the memory now: they come (`append`) and go.
  var processes: [Process] { get }
  func append(_ process: Process)
  /// Who else maps the memory, as far as it can be told.
  func strangeMappings() -> [StrangeMapping]
  var freezer: Stopper { get }
  var headroom: Headroom { get }
  var helper: Hands { get }
  var clock: Time { get }
  /// Makes the staging memory that `enable` fills, where there is none.
  func createStaging() throws(PortFailure)
  /// Gives all of it back; no page is in it any more.
  func destroyStaging()
}
