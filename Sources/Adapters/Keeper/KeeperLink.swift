internal import Glibc

/// The worker's side of what ties it to its keeper.
package final class KeeperLink: @unchecked Sendable {  // its fields are guarded by `mutex`
  /// What a worker finds open at its start.
  package static let workerDescriptor: Int32 = 3

  private let mutex = PlainMutex()
  private let socket: SequencedSocket
  package let keeperProcess: Int32
  /// This worker is to die with its keeper, as it will in an instant then, and no other is to follow.
  package let endsWithKeeper: Bool
  private var entries: [HeldKey: Descriptor] = [:]
  private var lingering: [Descriptor]
  private struct Former {
    weak var handle: ProcessHandle?
  }
  /// Those of them whom a tenant waits for, which has the handle.
  private var formerWorkers: [Former] = []
  /// The keeper is dead: what is held is only recorded, for `makeKeeper`.
  private var isAlone = false

  /// Reads what the keeper hands over first: all that is held.
  package init(socket descriptor: Descriptor, endsWithKeeper: Bool = false) throws(SystemError) {
    descriptor.setClosesOnExecute(true)
    socket = SequencedSocket(adopting: descriptor)
    var entries: [HeldKey: Descriptor] = [:]
    var keeper: Int32?
    while keeper == nil {
      guard case .packet(let packet) = try socket.receive() else {
        throw SystemError("taking over from the keeper", errorNumber: ECONNRESET)
      }
      let message = LinkPacket(packet.bytes)
      switch message?.kind {
      case .inventory where message?.keys.count == packet.descriptors.count:
        for (key, descriptor) in zip(message?.keys ?? [], packet.descriptors) { entries[key] = descriptor }
      case .inventoryEnd where message?.text.count == 4: keeper = message?.text.number(at: 0)
      default: throw SystemError("taking over from the keeper", errorNumber: packet.lostDescriptors ? EMFILE : EPROTO)
      }
    }
    guard let keeper else { throw SystemError("taking over from the keeper", errorNumber: EPROTO) }
    (keeperProcess, self.endsWithKeeper) = (keeper, endsWithKeeper)
    self.entries = entries.filter { $0.key.role != HeldKey.lingeringWorker }
    lingering = entries.filter { $0.key.role == HeldKey.lingeringWorker }.map(\.value)
    guard endsWithKeeper else { return }
    _ = c_prctl(Linux.PR_SET_PDEATHSIG, UInt(SIGKILL))
    // It may have died just before.
    if getppid() != keeper { throw SystemError("staying with the keeper", errorNumber: ESRCH) }
  }

  /// Whether it is dead, or dies in this moment.
  package var isKeeperDead: Bool {
    // Its sockets are closed before it is seen to have ended.
    var poll = pollfd(fd: socket.descriptor.raw, events: 0, revents: 0)
    let isHungUp = retryingInterrupts { Glibc.poll(&poll, 1, Self.deathMilliseconds) }.result > 0
    return isHungUp || getppid() != keeperProcess
  }

  /// Who kills both may not do so at once.
  private static let deathMilliseconds: Int32 = 300

  /// To be watched for a hang-up only: the keeper is dead.
  package var descriptor: Descriptor { socket.descriptor }

  /// As it is now, by /proc. To be asked for once.
  package func takeFormerWorkers() -> FormerWorkers {
    let handles = lingering.compactMap { pidfd in attempt { try ProcessHandle(pidfd: pidfd) } }  // else it has gone
    lingering = []
    locked { formerWorkers = handles.map { Former(handle: $0) } }
    return FormerWorkers(handles)
  }

  /// Everything that is held now.
  package var held: [HeldKey: Descriptor] { locked { entries } }

  package func isHeld(_ key: HeldKey) -> Bool { locked { entries[key] != nil } }

  /// Returns once the keeper has the descriptors. What was held under a key is replaced. With the keeper dead, they are
  /// recorded and go to the next one.
  package func hold(_ added: [(key: HeldKey, descriptor: Descriptor)]) throws(SystemError) {
    try locked { () throws(SystemError) in
      for (packet, descriptors) in LinkPacket.batches(.hold, added) {
        let answer = try exchange(packet, descriptors: descriptors)?.answer
        if answer?.kind == .refused { throw SystemError("handing descriptors to the keeper", errorNumber: EMFILE) }
        for (key, descriptor) in zip(packet.keys, descriptors) { entries[key] = descriptor }
      }
    }
  }

  /// Lets the next one in who knocks at the listening socket; held from the first.
  ///
  /// - Returns: nil where nobody knocks, or the keeper is dead.
  package func accept(as key: HeldKey) throws(SystemError) -> Descriptor? {
    try locked { () throws(SystemError) in
      guard let (answer, descriptors) = try exchange(LinkPacket(.accept, keys: [key])) else { return nil }
      if answer.kind == .refused { throw SystemError(answer.words, errorNumber: EMFILE) }
      guard let descriptor = descriptors.first else { return nil }
      entries[key] = descriptor
      return descriptor
    }
  }

  /// Has the keeper start an assistant.
  package func assist() throws(SystemError) -> SequencedSocket {
    guard let (answer, descriptors) = try locked({ () throws(SystemError) in try exchange(LinkPacket(.assist)) }) else {
      throw SystemError("starting an assistant: the keeper is dead", errorNumber: ECONNRESET)
    }
    guard answer.kind == .done, let descriptor = descriptors.first else {
      throw SystemError(answer.words, errorNumber: EAGAIN)
    }
    return SequencedSocket(adopting: descriptor)
  }

  package func drop(_ key: HeldKey) {
    locked { if entries.removeValue(forKey: key) != nil { tell(LinkPacket(.drop, keys: [key])) } }
  }

  package func drop(group: UInt64) {
    locked {
      let remaining = entries.filter { $0.key.group != group }
      guard remaining.count < entries.count else { return }
      entries = remaining
      tell(LinkPacket(.dropGroup, keys: [HeldKey(group: group, role: 0)]))
    }
  }

  /// Holds a new memfd with these bytes.
  package func store(_ bytes: [UInt8], as key: HeldKey) throws(SystemError) {
    try hold([(key, makeMemoryFile("swap-monitor-stored", containing: bytes))])
  }

  /// What `store` has left; nil where there is none.
  package func stored(_ key: HeldKey) -> [UInt8]? { locked { entries[key] }.flatMap { contents(of: $0) } }

  /// This worker serves now: from here on, only its orderly end (exit code 0) ends the keeper.
  package func tellReady() { locked { tell(LinkPacket(.ready)) } }

  /// The control thread goes on.
  package func tellAlive(_ status: String) { locked { tell(LinkPacket(.alive, text: Array(status.utf8))) } }

  /// Has this worker replaced by the program that is at its path now.
  ///
  /// - Returns: why that can't be; nil where this process is about to be killed.
  package func upgrade() -> String? {
    do throws(SystemError) {
      guard let (answer, _) = try locked({ () throws(SystemError) in try exchange(LinkPacket(.upgrade)) }) else {
        return "the keeper is dead"
      }
      return answer.kind == .refused ? answer.words : nil
    } catch { return "\(error)" }
  }

  /// Has the attendant become the keeper, with everything held; its first deed is to end this worker.
  ///
  /// - Returns: only where that failed.
  package func makeKeeper(of attendant: Attendant) -> SystemError {
    locked {
      var held = entries
      for (number, former) in formerWorkers.enumerated() {
        let key = HeldKey(group: 0, role: HeldKey.lingeringWorker, index: UInt32(number))
        if let handle = former.handle, handle.isAlive { held[key] = handle.descriptor }
      }
      return attendant.becomeKeeper(held: held)
    }
  }

  private func locked<Outcome, Failure: Error>(_ body: () throws(Failure) -> Outcome) throws(Failure) -> Outcome {
    mutex.lock()
    defer { mutex.unlock() }
    return try body()
  }

  /// Needs the lock. A living keeper that can't be told (no memory) only holds more than it has to.
  private func tell(_ message: LinkPacket) {
    attempt { try send(message, []) }
  }

  /// Needs the lock.
  ///
  /// - Returns: nil with the keeper dead.
  private func exchange(_ message: LinkPacket, descriptors: [Descriptor] = []) throws(SystemError) -> (
    answer: LinkPacket, descriptors: [Descriptor]
  )? {
    try send(message, descriptors)
    guard !isAlone else { return nil }
    guard case .packet(let packet) = try socket.receive() else {
      isAlone = true
      return nil
    }
    guard let answer = LinkPacket(packet.bytes) else { throw SystemError("asking the keeper", errorNumber: EPROTO) }
    return (answer, packet.descriptors)
  }

  private func send(_ message: LinkPacket, _ descriptors: [Descriptor]) throws(SystemError) {
    guard !isAlone else { return }
    do throws(SystemError) { _ = try socket.send(message.bytes, descriptors: descriptors) } catch {
      guard error.errorNumber == EPIPE || error.errorNumber == ECONNRESET else { throw error }
      isAlone = true
    }
  }
}
