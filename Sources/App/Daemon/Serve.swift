internal import Adapters
internal import Domain

/// `swap-monitor serve`.
enum Serve {
  /// The keeper.
  static func run(_ arguments: Arguments) throws {
    if arguments.has("end-with-parent") { ChildProcess.endWithParent() }
    let log = Log(level: try logLevel(arguments))
    Machine.raiseDescriptorLimit()
    let signals = try EndSignals()
    let (keeper, isActivated) = try makeKeeper(arguments, log, signals)
    let code = try keeper.run()
    if code != 0 { Console.exit(code) }
    // Else it is the service manager's.
    if !isActivated { attempt { try File.remove(socketPath(arguments)) } }
  }

  /// In a function of its own: what the keeper drops must be held by nobody else.
  @inline(never)
  private static func makeKeeper(_ arguments: Arguments, _ log: Log, _ signals: EndSignals) throws -> (
    Keeper, isActivated: Bool
  ) {
    let (inherited, isActivatedNow) = Keeper.inherited()
    let isActivated = isActivatedNow || arguments.has("activated")
    // Who goes on with tenants does so whatever the disk is like.
    let isFirst = inherited.keys.allSatisfy { $0.group == 0 }
    _ = try shared(arguments, log, isFirst: isFirst)  // what can't be is told now, and not by each worker
    var held = inherited
    if held[HeldRole.listenerKey] == nil { held[HeldRole.listenerKey] = try listen(arguments) }
    log.info("serving at \(socketPath(arguments))")
    let words = arguments.given + (isActivated && !arguments.has("activated") ? ["--activated"] : [])
    let keeper = try Keeper(
      workerArguments: ["worker"] + words, held: held, signals: signals, log: { log.error($0) },
      note: { log.info($0) })
    return (keeper, isActivated)
  }

  /// The worker, which the keeper starts.
  static func runWorker(_ words: [String]) throws {
    let arguments = try Arguments(words, of: .serve)
    let log = Log(level: try logLevel(arguments))
    Machine.raiseDescriptorLimit()
    Machine.nameProcess("swap-monitor")
    let signals = try EndSignals()
    let sharedByTenants = try shared(arguments, log, isFirst: false)
    guard let socket = Descriptor(inherited: KeeperLink.workerDescriptor) else {
      throw UsageError(message: "worker: is for swap-monitor itself, which starts it by 'swap-monitor serve'")
    }
    let link = try KeeperLink(socket: socket, endsWithKeeper: arguments.has("end-with-parent"))
    let attendant = try makeAttendant(link, log)
    // The last process that this one makes.
    let descriptors = Result { () throws(SystemError) in
      try SharedDescriptors(keeper: link.keeperProcess, attendant: attendant.process)
    }
    if arguments.has("no-sandbox") {
      log.warning("--no-sandbox: the worker keeps all rights that the daemon was started with")
    } else if let lack = try Sandbox.enter() {
      log.warning("sandbox: \(lack)")
    }
    let server = try Server(sharedByTenants, link: link, attendant: attendant, signals: signals)
    try server.takeOver(sharing: descriptors)
    server.link.tellReady()
    try server.run()
  }

  private static func makeAttendant(_ keeper: KeeperLink, _ log: Log) throws -> Attendant {
    guard let link = Descriptor(inherited: Attendant.linkDescriptor),
      let process = Descriptor(inherited: Attendant.processDescriptor)
    else { throw UsageError(message: "worker: is for swap-monitor itself, which starts it by 'swap-monitor serve'") }
    let attendant = try Attendant(link: link, process: process) {
      if keeper.isKeeperDead { return }
      log.error("the attendant is dead, and another worker with another one takes over")
      Console.exitAtOnce(1)
    }
    Privileges.leave(to: attendant)
    return attendant
  }

  /// What does for the worker what takes privilege; started by the keeper, too.
  static func runAttendant(_ words: [String]) throws {
    let arguments = try Arguments(words, of: .serve)
    Machine.nameProcess(AttendantService.processName)
    guard let link = Descriptor(inherited: KeeperLink.workerDescriptor) else {
      throw UsageError(message: "\(AttendantService.command): is for swap-monitor itself")
    }
    try AttendantService.run(
      link: link, swapDirectory: arguments.value("swap-dir") ?? Defaults.swapDirectory(),
      keeperArguments: ["serve"] + words)
  }

  private static func socketPath(_ arguments: Arguments) -> String {
    arguments.value("socket") ?? Defaults.socketPath()
  }

  private static func listen(_ arguments: Arguments) throws -> Descriptor {
    guard let mode = UInt32(arguments.value("socket-mode") ?? "660", radix: 8), mode <= 0o777 else {
      throw UsageError(
        message: "--socket-mode: \"\(arguments.value("socket-mode") ?? "")\"; an octal mode such as 0660 is right")
    }
    if let group = arguments.value("socket-group"), !SocketListener.isKnown(group: group) {
      throw UsageError(
        message: "--socket-group: there is no group \"\(group)\"; 'getent group' lists them, and a number is right, too"
      )
    }
    do throws(SocketListener.Failure) {
      return try SocketListener(
        path: socketPath(arguments), mode: mode, group: arguments.value("socket-group")
      ).descriptor
    } catch {
      switch error {
      case .alreadyServed(let path):
        throw CommandFailure(
          message: "another daemon serves \(path) already; use it, or choose another path with --socket")
      case .system(let error): throw CommandFailure(message: "\(error)")
      }
    }
  }

  private static func logLevel(_ arguments: Arguments) throws(UsageError) -> Log.Level {
    guard let name = arguments.value("log-level") else { return .info }
    guard let level = Log.Level(name: name) else {
      throw UsageError(message: "--log-level: \"\(name)\"; error, warning, info or debug is right")
    }
    return level
  }

  /// - Parameter isFirst: then what the daemon needs is looked at; later, what fails fails when it is needed.
  private static func shared(_ arguments: Arguments, _ log: Log, isFirst: Bool) throws -> LinuxPorts.Shared {
    let keepFree = try arguments.size("keep-free")
    guard let geometry = Machine.pageGeometry() else {
      throw CommandFailure(message: "this machine's page size is not a power of two")
    }
    let limits = try limits(arguments, geometry)
    if isFirst { try checkUserfaultfd(log) }
    let directory = arguments.value("swap-dir") ?? Defaults.swapDirectory()
    do throws(SystemError) {
      // Swap files are other users' memory: nobody else has business in their directory.
      if isFirst {
        if try Directory.make(directory, mode: 0o700) { log.info("made the swap directory \(directory)") }
        try SwapFileStore.probe(directory)
      }
    } catch {
      throw CommandFailure(message: "the swap directory can't be used: \(error). Choose another with --swap-dir")
    }
    return LinuxPorts.Shared(
      geometry: geometry, swapDirectory: directory, floor: FreeDiskFloor(bytes: keepFree),
      lockedMemory: LockedMemory(budget: PrefetchBudget(memoryLockLimitBytes: Machine.memoryLockLimitBytes())),
      limits: limits, log: log)
  }

  private static func limits(_ arguments: Arguments, _ geometry: PageGeometry) throws(UsageError)
    -> LinuxPorts.ConfiguredLimits
  {
    func pages(_ name: String, atLeast least: Int) throws(UsageError) -> Int? {
      guard let bytes = try arguments.size(name) else { return nil }
      let pages = geometry.pages(inBytes: bytes)
      guard pages >= least else {
        let text = ByteSize.text(UInt64(geometry.bytes(inPages: least)))
        throw UsageError(message: "--\(name): \"\(arguments.value(name) ?? "")\"; \(text) or more is right")
      }
      return pages
    }
    // Pages are moved a huge page at a time: with less nothing would ever be.
    let staging = try pages("staging-limit", atLeast: geometry.hugePagePages)
    let total = try pages("swap-total-limit", atLeast: 1)
    return LinuxPorts.ConfiguredLimits(
      staging: staging.map { SharedPageLimit(pages: $0) }, swapFiles: total.map { SharedPageLimit(pages: $0) },
      slots: try pages("swap-limit", atLeast: 1))
  }

  private static func checkUserfaultfd(_ log: Log) throws(CommandFailure) {
    let lack: String?
    do throws(SystemError) {
      let probe = try Userfaultfd.create()
      if probe.isUserModeOnly {
        log.info(
          "without privilege only user-mode userfaultfds are to be had: tenants whose memory the kernel touches on their "
            + "behalf (KVM, read(2) into it) will see EFAULT. For these, run as root or grant /dev/userfaultfd")
      }
      lack = try Userfaultfd.missingFeature(of: probe.descriptor)
    } catch { throw CommandFailure(message: "no userfaultfd is to be had: \(Userfaultfd.advice(for: error))") }
    if let lack {
      throw CommandFailure(message: "this kernel's userfaultfd lacks \(lack); Linux 6.6 has all that is needed")
    }
  }
}
