internal import Glibc

/// A worker and its attendant, our children.
struct StartedWorker {
  let process: ProcessHandle
  var attendant: ProcessHandle?

  /// Kills a child of ours and waits until it is gone.
  static func end(_ child: ProcessHandle) {
    child.kill()
    _ = retryingInterrupts { waitpid(child.pid, nil, 0) }
  }
}

/// A running worker, as its keeper sees it.
final class KeptWorker {
  let handle: ProcessHandle
  private let attendant: ProcessHandle?
  var isReady = false
  /// Another program is to follow it, so its death is none to complain of.
  var isBeingReplaced = false
  private let socket: SequencedSocket
  private var isLinked: Bool { deadlineNanoseconds == nil }
  /// A worker that has closed its link is on its way out; what can leave nothing behind any more shall not go on.
  private var deadlineNanoseconds: UInt64?
  private static let endLimitNanoseconds: UInt64 = 5_000_000_000
  /// How often is looked whether it lingers, which nothing tells. (It may also take so long to give its memory back.)
  private static let lookMilliseconds: Int32 = 1000
  /// What is yet to be handed over; the last packet is the inventory's end.
  private var inventory: [(packet: LinkPacket, descriptors: [Descriptor])]

  /// - Parameters:
  ///   - start: starts the process with that end of the link.
  init(
    inventory held: [HeldKey: Descriptor], start: (Descriptor) throws(SystemError) -> StartedWorker
  ) throws(SystemError) {
    let (ours, theirs) = try SequencedSocket.makePair()
    // The keeper waits for nobody; the worker waits for the keeper.
    try checked("O_NONBLOCK") { fcntl(ours.raw, F_SETFL, O_NONBLOCK) }
    socket = SequencedSocket(adopting: ours)
    inventory = LinkPacket.batches(.inventory, held.map { ($0, $1) })
    inventory.append((LinkPacket(.inventoryEnd, text: getpid().bytes), []))
    inventory.reverse()
    let started = try start(theirs)
    handle = started.process
    attendant = started.attendant
  }

  struct Events {
    let hasSignal: Bool
    let hasPacket: Bool
    let hasEnded: Bool
    /// It is dead but for a thread that the kernel holds.
    let lingers: Bool
  }

  /// Waits for what there is to do, and hands over meanwhile.
  func wait(signals: EndSignals) -> Events {
    let wanted = Int16(POLLIN) | (inventory.isEmpty ? 0 : Int16(POLLOUT))
    var polls = [
      pollfd(fd: signals.descriptor.raw, events: Int16(POLLIN), revents: 0),
      pollfd(fd: handle.descriptor.raw, events: Int16(POLLIN), revents: 0),
      pollfd(fd: isLinked ? socket.descriptor.raw : -1, events: wanted, revents: 0),
    ]
    let (count, _) = retryingInterrupts { poll(&polls, nfds_t(polls.count), Self.lookMilliseconds) }
    if let deadlineNanoseconds, SystemClock().nowNanoseconds >= deadlineNanoseconds { send(SIGKILL) }
    if polls[2].revents & Int16(POLLOUT) != 0 { handOver() }
    return Events(
      hasSignal: polls[0].revents != 0, hasPacket: polls[2].revents & ~Int16(POLLOUT) != 0,
      hasEnded: polls[1].revents != 0, lingers: count == 0 && isDying)
  }

  /// Its first thread has ended and others have not, which the kernel ends, too, as soon as they let themselves be.
  private var isDying: Bool {
    guard let text = readText("/proc/\(handle.pid)/stat"), let bracket = text.lastIndex(of: ")") else { return false }
    return text[text.index(after: bracket)...].first { $0 != " " } == "Z" && handle.isAlive
  }

  private func handOver() {
    while let next = inventory.last {
      do throws(SystemError) {
        guard try socket.send(next.packet.bytes, descriptors: next.descriptors) else { return }
      } catch {
        // Too many descriptors are on their way (unix(7), ETOOMANYREFS): the worker takes them out. Any other error is
        // the worker's death, which is seen soon.
        usleep(10_000)
        return
      }
      inventory.removeLast()
    }
  }

  /// - Returns: nil when nothing is there, or ever will be.
  func receive() -> Packet? {
    guard isLinked else { return nil }
    switch attempt({ try socket.receive() }) {
    case .packet(let packet): return packet
    case .nothingYet: return nil
    case .closed, nil: break
    }
    deadlineNanoseconds = SystemClock().nowNanoseconds + Self.endLimitNanoseconds
    return nil
  }

  /// - Returns: false when the worker does not read its answers.
  func answer(_ message: LinkPacket, descriptors: [Descriptor] = []) -> Bool {
    attempt { try socket.send(message.bytes, descriptors: descriptors) } ?? true  // it is dead
  }

  func send(_ signal: Int32) {
    attempt { try handle.send(signal) }  // else it is dead
  }

  enum End: Equatable {
    case exit(Int32)
    case signal(Int32)
    case lingers
  }

  /// To be called when it lingers: makes sure that none of its threads comes back.
  func leave() -> End {
    send(SIGKILL)
    if let attendant { StartedWorker.end(attendant) }
    return .lingers
  }

  /// To be called once it has ended. Ends its attendant too: a signal that the worker had asked for must not come later than
  /// what the next worker does.
  func reap() -> End {
    var status: Int32 = 0
    if let attendant { StartedWorker.end(attendant) }
    _ = retryingInterrupts { waitpid(handle.pid, &status, 0) }
    return status & 0x7F == 0 ? .exit(status >> 8 & 0xFF) : .signal(status & 0x7F)
  }
}
