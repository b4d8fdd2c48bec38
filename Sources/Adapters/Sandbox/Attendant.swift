internal import Glibc

/// The worker's side of the link to its attendant: any thread may ask, and each waits for its own answer only.
package final class Attendant: Sendable {
  /// What a worker finds open at its start.
  package static let linkDescriptor: Int32 = 4
  package static let processDescriptor: Int32 = 5

  package let process: ProcessHandle
  private let link: SequencedSocket
  /// Links that nobody waits at, with a thread of the attendant at each one's other end.
  private let idle = Guarded<[SequencedSocket]>([])
  /// So many stay; more were needed by many who asked at once.
  private static let idleLimit = 4
  private let isBecomingKeeper = Guarded(false)
  private static let endNanoseconds: UInt64 = 10_000_000_000

  /// Called where it is found dead. Where another worker, with another attendant, can follow this one, it is to end this
  /// one, so that no request fails for it.
  private let atDeath: @Sendable () -> Void

  package init(link: Descriptor, process: Descriptor, atDeath: @escaping @Sendable () -> Void) throws(SystemError) {
    self.atDeath = atDeath
    for descriptor in [link, process] { descriptor.setClosesOnExecute(true) }
    self.link = SequencedSocket(adopting: link)
    self.process = try ProcessHandle(pidfd: process)
    try send(LinkPacket(.hold, keys: [.formerWorker]), [try ProcessHandle(pid: getpid()).descriptor])
    for _ in 0..<Self.idleLimit {
      let lane = try makeLane()
      idle.withLock { $0.append(lane) }
    }
  }

  /// To be called when its process has ended.
  package func died() { atDeath() }

  /// It is dead, or the keeper now, who ends this process: then what was asked is asked by the next worker.
  private func hasGone() {
    while isBecomingKeeper.withLock({ $0 }) { usleep(10_000) }
    atDeath()
  }

  func perform(
    _ call: PrivilegedCall, _ descriptors: [Descriptor], operation: @autoclosure () -> String
  ) throws(SystemError) -> PrivilegedAnswer {
    let lane: SequencedSocket
    let received: SequencedSocket.Received
    do throws(SystemError) {
      lane = if let lane = idle.withLock({ $0.popLast() }) { lane } else { try makeLane() }
      _ = try lane.send(call.bytes, descriptors: descriptors)
      received = try lane.receive()
    } catch {
      if error.errorNumber == EPIPE || error.errorNumber == ECONNRESET { hasGone() }
      throw error
    }
    guard case .packet(let packet) = received else {
      hasGone()
      throw SystemError("\(operation()): the attendant is dead", errorNumber: ECONNRESET)
    }
    idle.withLock { if $0.count < Self.idleLimit { $0.append(lane) } }
    return try PrivilegedAnswer(packet, operation: operation())
  }

  private func makeLane() throws(SystemError) -> SequencedSocket {
    let (ours, theirs) = try SequencedSocket.makePair()
    _ = try link.send(LinkPacket(.lane).bytes, descriptors: [theirs])
    return SequencedSocket(adopting: ours)
  }

  /// Has it become the keeper, whose first deed is to end this process.
  ///
  /// - Returns: only where that failed.
  func becomeKeeper(held: [HeldKey: Descriptor]) -> SystemError {
    isBecomingKeeper.withLock { $0 = true }
    defer { isBecomingKeeper.withLock { $0 = false } }
    do throws(SystemError) {
      for (packet, descriptors) in LinkPacket.batches(.hold, held.map { ($0, $1) }) { try send(packet, descriptors) }
      try send(LinkPacket(.succeed), [])
      guard case .packet(let packet) = try link.receive(), let answer = LinkPacket(packet.bytes) else {
        // It executes the keeper's program now, and ends this process any moment; or it is dead.
        _ = Readable.wait(for: [process.descriptor], timeoutNanoseconds: Self.endNanoseconds)
        return SystemError("the attendant has died", errorNumber: ECONNRESET)
      }
      return SystemError(answer.words, errorNumber: EIO)
    } catch { return error }
  }

  private func send(_ message: LinkPacket, _ descriptors: [Descriptor]) throws(SystemError) {
    while true {
      do throws(SystemError) {
        _ = try link.send(message.bytes, descriptors: descriptors)
        return
      } catch {
        guard error.errorNumber == ETOOMANYREFS else { throw error }
        usleep(10_000)  // it takes them out (unix(7))
      }
    }
  }
}

/// A process of its own, with the daemon's rights and no sandbox, that does for one worker what that may not do, and nothing
/// else. The keeper ends it before the next worker starts: a signal that an earlier worker had asked for can't come late.
package enum AttendantService {
  package static let command = "attendant"
  package static let processName = "swap-attendant"

  /// Serves until the worker is gone.
  ///
  /// - Parameter keeperArguments: what this program is to be executed with should it become the keeper.
  package static func run(link descriptor: Descriptor, swapDirectory: String, keeperArguments: [String])
    throws(SystemError)
  {
    let keeper = getppid()
    descriptor.setClosesOnExecute(true)
    let link = SequencedSocket(adopting: descriptor)
    let work = PrivilegedWork(swapDirectory: swapDirectory)
    var held: [HeldKey: Descriptor] = [:]
    // (The link's other end may outlive the worker, whose descriptors are shared.)
    while !isDead(held[.formerWorker], before: link), case .packet(let packet) = try link.receive() {
      guard let message = LinkPacket(packet.bytes) else { return }
      switch message.kind {
      case .lane:
        guard let lane = packet.descriptors.first else { return }
        try Thread.runDetached(name: "lane") { serve(SequencedSocket(adopting: lane), work) }
      case .hold:
        guard message.keys.count == packet.descriptors.count else { return }
        if let place = message.keys.firstIndex(of: .formerWorker), !isWorker(packet.descriptors[place], keeper) {
          return
        }
        for (key, descriptor) in zip(message.keys, packet.descriptors) { held[key] = descriptor }
      case .succeed:
        let failure = becomeKeeper(after: keeper, keeperArguments, held)
        _ = try link.send(LinkPacket(.refused, text: Array("\(failure)".utf8)).bytes)
        held = held.filter { $0.key == .formerWorker }
      default: return
      }
    }
  }

  /// Whether that is a child of the keeper, as we are, and runs this program: the next keeper kills it.
  private static func isWorker(_ pidfd: Descriptor, _ keeper: Int32) -> Bool {
    do throws(SystemError) {
      let pid = try ProcessHandle(pidfd: pidfd).pid
      return pid != getpid() && linkTarget("/proc/\(pid)/exe") == linkTarget("/proc/self/exe")
        && ProcessStatus(pid: pid)["PPid"] == ProcessStatus(pid: getpid())["PPid"]
    } catch { return false }
  }

  /// - Returns: only where that failed.
  private static func becomeKeeper(after keeper: Int32, _ arguments: [String], _ held: [HeldKey: Descriptor])
    -> SystemError
  {
    // The worker may have seen its links close just before its end.
    for _ in 0..<keeperLooks where getppid() == keeper { usleep(lookMicroseconds) }
    guard getppid() != keeper else { return SystemError("the keeper is alive", errorNumber: EPERM) }
    let name = linkTarget("/proc/self/exe") ?? "swap-monitor"
    return Inheritance.execute("/proc/self/exe", [name] + arguments, passing: held)
  }

  private static let keeperLooks = 1000
  private static let lookMicroseconds: UInt32 = 1000

  /// Waits for a packet.
  ///
  /// - Returns: whether the worker is dead, and there is none.
  private static func isDead(_ worker: Descriptor?, before link: SequencedSocket) -> Bool {
    let ready = Readable.wait(for: [link.descriptor] + [worker].compactMap { $0 })
    return !ready.contains { $0 === link.descriptor }
  }

  private static func serve(_ lane: SequencedSocket, _ work: PrivilegedWork) {
    do throws(SystemError) {
      while case .packet(let packet) = try lane.receive() {
        guard let call = PrivilegedCall(packet.bytes) else { return }
        let (bytes, descriptors) = answer(call, packet.descriptors, work)
        _ = try lane.send(bytes, descriptors: descriptors)
      }
    } catch {}  // the worker is gone
  }

  private static func answer(_ call: PrivilegedCall, _ descriptors: [Descriptor], _ work: PrivilegedWork) -> (
    bytes: [UInt8], descriptors: [Descriptor]
  ) {
    do throws(SystemError) { return try work.perform(call, descriptors).packet() } catch {
      return (PrivilegedAnswer.packet(refusing: error.errorNumber), [])
    }
  }
}

extension ProcessHandle {
  /// Of a keeper: its worker. None is alive in the instant when the next one follows.
  package func workers() -> [ProcessHandle] { children().filter { $0.name != AttendantService.processName } }

  /// Of a keeper: its worker's, and the next one's.
  package func attendants() -> [ProcessHandle] { children().filter { $0.name == AttendantService.processName } }
}
