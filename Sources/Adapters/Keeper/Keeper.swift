internal import Glibc

/// Holds every descriptor that matters, and has a worker do everything else: when that dies of anything, the next one is
/// handed them all. One thread, which parses nothing that a client sent.
package final class Keeper {
  /// Of all that one worker leaves for the next one, this link and the tables.
  package static let layoutVersion = 5

  /// Starts a worker with its end of the link, and its attendant.
  typealias Start = @Sendable (_ program: WorkerProgram, _ link: Descriptor) throws(SystemError) -> StartedWorker

  private var held: [HeldKey: Descriptor]
  private let signals: EndSignals
  private let start: Start
  private let prepare: @Sendable (WorkerProgram) -> Void
  private let layoutQuestion: [String]
  private let log: (String) -> Void
  /// For what is no trouble.
  private let note: (String) -> Void
  private let serviceManager: ServiceManager?

  private var program: WorkerProgram
  /// What ran before an upgrade whose worker has not served yet.
  private var formerProgram: WorkerProgram?
  private var delay = RestartDelay()
  /// Those that are not reaped yet, whose numbers are nobody else's until then.
  private var assistants: [Int32] = []
  /// Dead workers that have a thread which the kernel holds.
  private var lingering: [ProcessHandle] = []
  /// The listening socket.
  private var door: SocketListener?
  private var endIsAsked = false
  /// No worker has served, and none has left anything: one that can't start is the daemon that can't.
  private var isFirstStart: Bool

  /// - Parameters:
  ///   - held: what is held already.
  ///   - signals: made before any other thread.
  package convenience init(
    workerArguments: [String], held: [HeldKey: Descriptor], signals: EndSignals, log: @escaping (String) -> Void,
    note: @escaping (String) -> Void
  ) throws(SystemError) {
    try self.init(
      executable: "/proc/self/exe", layoutQuestion: ["layout-version"], held: held, signals: signals,
      serviceManagerAddress: Machine.environment("NOTIFY_SOCKET"), log: log, note: note,
      start: Self.starting(
        workerArguments, attendant: [AttendantService.command] + workerArguments.dropFirst()))
  }

  init(
    executable: String, layoutQuestion: [String], held: [HeldKey: Descriptor], signals: EndSignals,
    serviceManagerAddress: String?, log: @escaping (String) -> Void,
    note: @escaping (String) -> Void = { _ in },
    start: (start: Start, prepare: @Sendable (WorkerProgram) -> Void)
  ) throws(SystemError) {
    self.held = held.filter { $0.key.role != HeldKey.lingeringWorker }
    lingering = held.filter { $0.key.role == HeldKey.lingeringWorker }.compactMap { entry in
      attempt { try ProcessHandle(pidfd: entry.value) }  // else it has gone
    }
    self.signals = signals
    self.log = log
    self.note = note
    (self.start, prepare) = start
    self.layoutQuestion = layoutQuestion
    program = WorkerProgram(executable: executable)
    isFirstStart = held.keys.allSatisfy { $0.group == 0 }
    var serviceManager: ServiceManager?
    do throws(SystemError) {
      serviceManager = try serviceManagerAddress.map { address throws(SystemError) in
        try ServiceManager(address: address)
      }
    } catch { log("\(error)") }
    self.serviceManager = serviceManager
    for (key, descriptor) in self.held { store(descriptor, as: key) }
  }

  /// What this process was given: by a worker whose keeper has died, and by a service manager; and whether the file of the
  /// listening socket is the service manager's. To be called once.
  package static func inherited() -> (held: [HeldKey: Descriptor], isActivated: Bool) {
    let (held, isActivated) = Inheritance.fromServiceManager()
    var passed = Inheritance.passed()
    if let worker = passed.removeValue(forKey: .formerWorker) {
      // Nothing of it goes on when the next one starts, but for a thread that the kernel holds.
      attempt { try ProcessHandle(pidfd: worker).kill() }  // else it is dead
      if Readable.wait(for: [worker], timeoutNanoseconds: Self.endNanoseconds).isEmpty {
        passed[HeldKey(group: 0, role: HeldKey.lingeringWorker, index: .max)] = worker
      }
    }
    return (held.merging(passed) { $1 }, isActivated)
  }

  /// Runs until the worker has ended in order.
  ///
  /// - Returns: the exit code.
  package func run() throws(SystemError) -> Int32 {
    while true {
      let begin = SystemClock().nowNanoseconds
      do throws(SystemError) {
        let worker = try startWorker()
        let end = serve(worker)
        if let code = judge(end, of: worker) { return code }
        if worker.isBeingReplaced { continue }
      } catch {
        if isFirstStart { throw error }
        log("no worker can be started, trying again: \(error)")
      }
      let pause = delay.next(livedNanoseconds: SystemClock().nowNanoseconds - begin)
      if pause > 0 {
        log("\(delay.shortLives) workers in a row have died young: the next one starts in \(pause / 1_000_000) ms")
      }
      rest(nanoseconds: pause)
    }
  }

  private static let endNanoseconds: UInt64 = 2_000_000_000

  private func reapLingering() {
    reapAssistants()
    // (Of an earlier keeper's they are no children of ours.)
    for worker in lingering { _ = retryingInterrupts { waitpid(worker.pid, nil, WNOHANG) } }
    lingering.removeAll { !$0.isAlive }
  }

  private func startWorker() throws(SystemError) -> KeptWorker {
    let (start, program) = (self.start, self.program)
    reapLingering()
    var inventory = held
    for (number, worker) in lingering.enumerated() {
      inventory[HeldKey(group: 0, role: HeldKey.lingeringWorker, index: UInt32(number))] = worker.descriptor
    }
    let worker = try KeptWorker(inventory: inventory) { link throws(SystemError) in
      try start(program, link)
    }
    if endIsAsked { worker.send(SIGTERM) }
    return worker
  }

  private func serve(_ worker: KeptWorker) -> KeptWorker.End {
    while true {
      let events = worker.wait(signals: signals)
      if events.hasSignal && signals.take() != nil {
        endIsAsked = true
        worker.send(SIGTERM)
      }
      if events.hasPacket || events.hasEnded {
        // What a worker said before its end counts.
        while let packet = worker.receive() {
          if !handle(packet, from: worker) {
            log("worker \(worker.handle.pid) sends what makes no sense: killing it")
            worker.send(SIGKILL)
          }
        }
      }
      if events.hasEnded { return worker.reap() }
      if events.lingers {
        lingering.append(worker.handle)
        return worker.leave()
      }
      reapLingering()
    }
  }

  /// - Returns: false for what no worker sends.
  private func handle(_ packet: Packet, from worker: KeptWorker) -> Bool {
    guard !packet.isTruncated, let message = LinkPacket(packet.bytes) else { return false }
    switch message.kind {
    case .hold:
      if packet.lostDescriptors { return worker.answer(LinkPacket(.refused)) }  // this process has no number left
      guard message.keys.count == packet.descriptors.count, !message.keys.isEmpty else { return false }
      let entries = zip(message.keys, packet.descriptors)
      let replaced = message.keys.filter { held[$0] != nil }
      for (key, descriptor) in entries { held[key] = descriptor }
      // Before the worker goes on: what its clients are told next must not be more than the service manager knows.
      replaced.forEach(forget)
      for (key, descriptor) in entries { store(descriptor, as: key) }
      return worker.answer(LinkPacket(.done))
    case .drop: drop(message.keys)
    case .dropGroup:
      guard let group = message.keys.first?.group else { return false }
      drop(held.keys.filter { $0.group == group })
    case .ready:
      worker.isReady = true
      isFirstStart = false
      formerProgram = nil
      tellServiceManager { manager throws(SystemError) in try manager.tellReady() }
      prepare(program)
    case .upgrade: return upgrade(worker)
    case .accept: return accept(message.keys, for: worker)
    case .alive:
      // Nothing else feeds the watchdog: a control thread that hangs is as bad as none.
      tellServiceManager { manager throws(SystemError) in try manager.tellAlive(status: message.words) }
    case .assist: return assist(worker)
    case .lane, .succeed, .inventory, .inventoryEnd, .done, .refused: return false
    }
    return true
  }

  /// The keeper lets them in, so that no connection is ever the worker's alone.
  private func accept(_ keys: [HeldKey], for worker: KeptWorker) -> Bool {
    guard keys.count == 1, let key = keys.first, let socket = held[HeldKey.activatedSocket] else { return false }
    let door = door ?? SocketListener(adopting: socket)
    self.door = door
    do throws(SystemError) {
      guard let connection = try door.accept() else { return worker.answer(LinkPacket(.done)) }
      held[key] = connection.descriptor
      let isAnswered = worker.answer(LinkPacket(.done, keys: [key]), descriptors: [connection.descriptor])
      store(connection.descriptor, as: key)
      return isAnswered
    } catch { return worker.answer(LinkPacket(.refused, text: Array("\(error)".utf8))) }
  }

  /// The assistant does for the worker what takes privilege: it is a process of its own, and ends when it is done.
  private func assist(_ worker: KeptWorker) -> Bool {
    reapAssistants()
    do throws(SystemError) {
      let (ours, theirs) = try SequencedSocket.makePair()
      assistants.append(
        try ChildProcess.spawn(program.executable, name: program.path, ["assistant"]) {
          posix_spawn_file_actions_adddup2(&$0, theirs.raw, KeeperLink.workerDescriptor)
        }.pid)
      return worker.answer(LinkPacket(.done), descriptors: [ours])
    } catch { return worker.answer(LinkPacket(.refused, text: Array("\(error)".utf8))) }
  }

  private func reapAssistants() {
    assistants.removeAll { assistant in retryingInterrupts { waitpid(assistant, nil, WNOHANG) }.result != 0 }
  }

  private func upgrade(_ worker: KeptWorker) -> Bool {
    switch program.successor(question: layoutQuestion) {
    case .refused(let reason): return worker.answer(LinkPacket(.refused, text: Array(reason.utf8)))
    case .usable(let next):
      note("replacing worker \(worker.handle.pid) by the program that is at \(next.path) now")
      formerProgram = program
      program = next
      worker.isBeingReplaced = true
      let isAnswered = worker.answer(LinkPacket(.done))
      worker.send(SIGKILL)
      return isAnswered
    }
  }

  /// - Returns: the daemon's exit code, where this was its end.
  private func judge(_ end: KeptWorker.End, of worker: KeptWorker) -> Int32? {
    let how: String
    switch end {
    case .exit(0):
      tellServiceManager { manager throws(SystemError) in try manager.tellStopping() }
      drop(Array(held.keys))
      return 0
    case .exit(let code) where isFirstStart: return code
    case .exit(let code): how = "has ended with exit code \(code)"
    case .signal(let number): how = "was killed by signal \(number)"
    case .lingers: how = "is dead, but for a thread that the kernel holds (for a tenant's lock, or a disk)"
    }
    if worker.isBeingReplaced { return nil }
    log("worker \(worker.handle.pid) \(how); starting another")
    if let formerProgram, !worker.isReady {
      log("the new program has not come to serve: going back to the one before")
      program = formerProgram
      self.formerProgram = nil
    }
    return nil
  }

  /// Waits, and still hears signals.
  private func rest(nanoseconds: UInt64) {
    let deadline = SystemClock().nowNanoseconds + nanoseconds
    while true {
      let now = SystemClock().nowNanoseconds
      guard now < deadline else { return }
      let ready = Readable.wait(for: [signals.descriptor], timeoutNanoseconds: deadline - now)
      if !ready.isEmpty && signals.take() != nil { endIsAsked = true }
    }
  }

  private func drop(_ keys: [HeldKey]) {
    for key in keys where held.removeValue(forKey: key) != nil { forget(key) }
  }

  private func forget(_ key: HeldKey) {
    tellServiceManager { manager throws(SystemError) in try manager.remove(key) }
  }

  private func store(_ descriptor: Descriptor, as key: HeldKey) {
    tellServiceManager { manager throws(SystemError) in try manager.store(descriptor, as: key) }
  }

  private func tellServiceManager(_ body: (ServiceManager) throws(SystemError) -> Void) {
    guard let serviceManager else { return }
    do throws(SystemError) { try body(serviceManager) } catch { log("\(error)") }
  }
}
