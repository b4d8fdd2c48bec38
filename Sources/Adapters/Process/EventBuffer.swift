package import Domain
internal import Glibc

/// The events of one read of a userfaultfd, in a memfd: should the worker die in the middle, the next one finds the removes
/// that this one had read.
///
/// Layout: a 64-bit count of messages, padding to 64 bytes, then the messages as the kernel wrote them.
package final class EventBuffer: EventBatch, @unchecked Sendable {  // belongs to the thread that drains its userfaultfd
  package let file: Descriptor
  private let mapping: MemoryMapping

  /// One read's worth: a fault's message is 32 bytes.
  static let capacity = 126
  private static let headerBytes = 64
  private static let bytes = 4096

  package convenience init() throws(SystemError) {
    try self.init(adopting: try makeMemoryFile("swap-monitor-events", bytes: Self.bytes))
    clear()
  }

  /// Takes over what an earlier worker has left: it may have died between the read and the count.
  package init(adopting file: Descriptor) throws(SystemError) {
    self.file = file
    mapping = try MemoryMapping(of: file, bytes: Self.bytes, writable: true, operation: "mapping an event buffer")
    let left = (0..<Self.capacity).first { messages[$0].event == 0 } ?? Self.capacity
    setCount(left)
    // It may have died while it cleared them: the rest would seem to be there again after the next read.
    for number in left..<Self.capacity { messages[number].event = 0 }
  }

  package var count: Int { mapping.address.load(as: Int.self) }

  package func event(at index: Int) -> MemoryEvent {
    let message = messages[index]
    switch message.event {
    case UFFD.EVENT_PAGEFAULT where message.argument0 & UFFD.PAGEFAULT_FLAG_WP != 0:
      return .writeProtected(address: message.argument1)
    case UFFD.EVENT_PAGEFAULT: return .missing(address: message.argument1)
    case UFFD.EVENT_REMOVE where isRange(message.argument0, message.argument1):
      return .removed(start: message.argument0, end: message.argument1)
    case UFFD.EVENT_FORK: return .forked(child: Int32(truncatingIfNeeded: message.argument0))
    case UFFD.EVENT_REMAP where isAddress(message.argument0 | message.argument1 | message.argument2):
      return .remapped(from: message.argument0, to: message.argument1, bytes: message.argument2)
    case UFFD.EVENT_UNMAP where isRange(message.argument0, message.argument1):
      return .unmapped(start: message.argument0, end: message.argument1)
    default: return .other
    }
  }

  /// No user's address is larger, so that sums of two don't overflow.
  private func isAddress(_ number: UInt64) -> Bool { number < 1 << 62 }
  private func isRange(_ start: UInt64, _ end: UInt64) -> Bool { start <= end && isAddress(end) }

  package func clear() {
    // What was read is told by messages that are there; no event has the number 0.
    for number in 0..<count { messages[number].event = 0 }
    setCount(0)
  }

  /// This one has been applied, and says nothing any more.
  package func settle(at index: Int) { messages[index].event = Self.settled }

  /// No event of the kernel's.
  private static let settled: UInt8 = 0xFF

  /// Reads without waiting, whatever the client has done to the shared open file's O_NONBLOCK.
  ///
  /// The kernel writes the messages themselves to shared memory, so a worker that dies right after leaves them all.
  func fill(from userfaultfd: Descriptor) throws(PortFailure) {
    var vector = iovec(iov_base: messages, iov_len: Self.capacity * MemoryLayout<uffd_msg>.stride)
    var (bytes, errorNumber) = retryingInterrupts { preadv2(userfaultfd.raw, &vector, 1, -1, Linux.RWF_NOWAIT) }
    if bytes < 0 && errorNumber == EOPNOTSUPP {
      // One that a fork has made knows not of RWF_NOWAIT. Nobody but us holds it, so O_NONBLOCK stays set.
      (bytes, errorNumber) = retryingInterrupts { readv(userfaultfd.raw, &vector, 1) }
    }
    if bytes < 0 {
      if errorNumber == EAGAIN { return }
      throw PortFailure(.readEvents, errorNumber: errorNumber)
    }
    setCount(Int(bytes) / MemoryLayout<uffd_msg>.stride)
  }

  private var messages: UnsafeMutablePointer<uffd_msg> {
    // Safety: the mapping is page aligned and holds the header and `capacity` messages.
    (mapping.address + Self.headerBytes).assumingMemoryBound(to: uffd_msg.self)
  }

  private func setCount(_ count: Int) { mapping.address.storeBytes(of: count, as: Int.self) }
}
