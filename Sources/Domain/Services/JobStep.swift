/// What a job says after a bounded piece of work.
package enum JobStep: Equatable, Sendable {
  case again
  /// Something stands in the way; nothing is lost by waiting this long.
  case retryAfter(nanoseconds: UInt64)
  case finished
}

/// Why a job ended early. Every page stays readable.
package enum JobFailure: Error, Equatable, Sendable {
  case port(PortFailure)
  /// A process does I/O that a move could lose.
  case kernelAccess(sign: String)
  /// Somebody uses the memory through a mapping that has not been announced.
  case strangeMapping(StrangeMapping)
  /// The processes did not stop in time.
  case freezeTimedOut
  /// So many pages could not be read back from the swap file; they stay monitored.
  case unreadable(pages: Int)
  /// All of the tenant's processes are dead.
  case tenantGone
}

/// A long piece of work on one tenant, in bounded steps. Between steps it may be ended by `abort`.
package protocol SteppedJob {
  /// Pages handled so far.
  var pages: Int { get }
  /// Pages looked at so far, also those that nothing had to be done with.
  var examinedPages: Int { get }
  /// Why it waits for memory, or has ended early for want of it.
  var shortage: MemoryShortage? { get }
  /// Whether `abort` would leave nothing half done. Where not, the next steps bring it there.
  var mayAbort: Bool { get }
  /// After a throw the job is over, and has cleaned up behind itself.
  mutating func step() throws(JobFailure) -> JobStep
  /// Ends the job between two steps, and leaves nothing half done.
  mutating func abort()
}

extension SteppedJob {
  package var examinedPages: Int { pages }
  package var shortage: MemoryShortage? { nil }
  package var mayAbort: Bool { true }
}

/// How long steps wait before they try again, in nanoseconds.
enum RetryDelay {
  /// An event must be read first, or a thread run on: microseconds as a rule.
  static let event: UInt64 = 50_000
  /// Memory must become free.
  static let memory: UInt64 = 10_000_000
  /// A control group or the machine must have room again.
  static let headroom: UInt64 = 100_000_000
  /// A process must stop.
  static let freeze: UInt64 = 200_000
  /// A slot's read must end.
  static let slot: UInt64 = 1_000_000
}

/// The error numbers that the domain tells apart, as in Linux's asm-generic/errno-base.h.
package enum ErrorNumber {
  package static let noSpace: Int32 = 28
  package static let noMemory: Int32 = 12
  package static let inputOutput: Int32 = 5
  package static let noEntry: Int32 = 2
}
