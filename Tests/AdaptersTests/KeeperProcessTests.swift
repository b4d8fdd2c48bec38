import Glibc
import Testing

@testable import Adapters

private let python = (["/usr/bin/python3", "/usr/local/bin/python3"] as [String]).first { access($0, X_OK) == 0 }
private let clients = #filePath.split(separator: "/").dropLast(2).reduce("") { "\($0)/\($1)" } + "/Clients"

/// The keeper with real programs around it.
struct KeeperProcessTests {
  private static func key(_ index: Int) -> HeldKey { HeldKey(group: 1, role: 2, index: UInt32(index)) }

  @Test("a started worker finds its link, and is told to end however often it is started", .enabled(if: python != nil))
  func realWorker() throws {
    let program = try #require(python)
    let stage = try Stage(
      executable: program, start: Keeper.starting(["-B", "\(clients)/keeper_worker.py"], attendant: ["-c", "pass"]))
    #expect(eventually { stage.deaths.count == 1 })
    stage.signal(UInt32(SIGTERM))
    #expect(stage.end() == .success(0))
    #expect(
      stage.deaths.map { $0.split(separator: " ").dropFirst(2).joined(separator: " ") } == [
        "was killed by signal 9; starting another", "was killed by signal 11; starting another",
      ])
  }

  @Test("whose threads a dead worker still has is told by their names, and by those that they started")
  func formerWorkers() throws {
    let child = try Child { inside in
      try Thread.runDetached(name: Thread.name("file-faults", of: 12_345)) { while true { pause() } }
      try Thread.runDetached(name: Thread.name("jobs", of: 7)) {
        do throws(SystemError) { try Thread.runDetached(name: "helper") { while true { pause() } } } catch {}
      }
      inside.tell(1)
      inside.waitForEver()
    }
    try #require(child.hear() == 1)
    func isHeld(_ tenant: UInt64) -> Bool {
      FormerWorkers([child.handle]).workers(holding: tenant).map(\.pid) == [child.pid]
    }
    #expect(eventually { isHeld(12_345) && isHeld(7) })
    #expect(!isHeld(1) && !isHeld(123_456))
    _ = child.end(signal: SIGKILL)
    #expect(!isHeld(7))
  }

  @Test("becoming the keeper passes on everything held, and nothing else", .enabled(if: python != nil))
  func becomesKeeper() async {
    await #expect(processExitsWith: .exitCode(0)) {
      let (keeper, socket) = try KeeperProcessTests.link()
      let files = try (0..<300).map { try makeMemoryFile("kept-by-test", bytes: $0 + 1) }
      let words = ["python3", "-B", "\(clients)/executed_keeper.py", "serve", "a b", ""]
      _ = try keeper.send(LinkPacket(.inventoryEnd, text: getpid().bytes).bytes)
      let link = try KeeperLink(socket: socket)
      // The keeper is as good as dead: nobody answers.
      shutdown(keeper.descriptor.raw, Int32(SHUT_RDWR))
      try link.hold(files.enumerated().map { (KeeperProcessTests.key($0), $1) })
      try link.hold([(HeldKey(group: 3, role: 3), makeMemoryFile("kept-by-test", bytes: 1))])
      link.drop(group: 3)
      _exit(Inheritance.execute(try #require(python), words, passing: link.held).errorNumber == 0 ? 98 : 99)
    }
  }

  @Test("what was passed on is taken over once, close-on-exec again, and only by whom it is for")
  func takesOver() async {
    await #expect(processExitsWith: .exitCode(0)) {
      func check(_ condition: Bool, line: Int32 = #line) { if !condition { _exit(line % 256) } }
      let files = try (0..<3).map { try makeMemoryFile("passed-by-test", bytes: $0 + 1) }
      let numbers = files.map { dup($0.raw) }
      let held = Dictionary(
        uniqueKeysWithValues: numbers.enumerated().map { (KeeperProcessTests.key($0), Descriptor(owning: $1)) })
      let list = try Inheritance.pass(held)
      check(numbers.allSatisfy { fcntl($0, F_GETFD) == 0 } && fcntl(list.raw, F_GETFD) == 0)
      let variable = try #require(Machine.environment("SWAP_MONITOR_HELD"))
      setenv("SWAP_MONITOR_HELD", "\(list.raw) 1", 1)
      check(Inheritance.passed().isEmpty)
      setenv("SWAP_MONITOR_HELD", variable, 1)
      let inherited = Keeper.inherited().held
      check(inherited.mapValues { $0.raw } == held.mapValues { $0.raw })
      check(numbers.allSatisfy { fcntl($0, F_GETFD) == FD_CLOEXEC })
      check(Machine.environment("SWAP_MONITOR_HELD") == nil && Keeper.inherited().held.isEmpty)
      _exit(0)  // before each number is closed twice
    }
  }

  @Test("a worker that is to die with its keeper has the kernel see to it")
  func diesWithKeeper() async {
    await #expect(processExitsWith: .exitCode(0)) {
      func isTied(to process: Int32) throws -> Bool {
        let (keeper, socket) = try KeeperProcessTests.link()
        _ = try keeper.send(LinkPacket(.inventoryEnd, text: process.bytes).bytes)
        do throws(SystemError) { _ = try KeeperLink(socket: socket, endsWithKeeper: true) } catch { return false }
        var signal: Int32 = 0
        _ = withUnsafeMutablePointer(to: &signal) { c_prctl(2, UInt(bitPattern: $0)) }  // PR_GET_PDEATHSIG
        _ = c_prctl(Linux.PR_SET_PDEATHSIG, 0)
        return signal == SIGKILL
      }
      let isRight = try isTied(to: getppid()) && !isTied(to: getpid())
      _exit(isRight ? 0 : 1)
    }
  }

  private static func link() throws -> (keeper: SequencedSocket, worker: Descriptor) {
    var ends: [Int32] = [0, 0]
    try #require(socketpair(AF_UNIX, Int32(SOCK_SEQPACKET.rawValue | SOCK_CLOEXEC.rawValue), 0, &ends) == 0)
    return (SequencedSocket(adopting: Descriptor(owning: ends[0])), Descriptor(owning: ends[1]))
  }

  @Test("a program that does not know these tables is refused, and the worker goes on")
  func refusedUpgrades() throws {
    for (question, reason) in [
      ("exit 0", "does not say which layout"), ("echo swap-monitor 1.0", "does not say which layout"),
      ("echo 99", "knows layout 99 of the tables"), ("exec sleep 60", "does not say which layout"),
    ] {
      let stage = try Stage(layoutQuestion: ["-c", question])
      let worker = try stage.next()
      let link = try worker.link()
      let answer = try #require(link.upgrade())
      #expect(answer.contains(reason), "\(answer)")
      try link.store([1], as: Self.key(0))
      #expect(worker.process.isAlive)
      worker.exit(0)
      #expect(stage.end() == .success(0))
    }
    let stage = try Stage(executable: "/nonexistent/swap-monitor")
    let worker = try stage.next()
    #expect(try worker.link().upgrade()?.contains("/nonexistent/swap-monitor: No such file") == true)
    worker.exit(0)
    #expect(stage.end() == .success(0))
  }

  @Test("an upgrade hands everything to the program at the same path; one that does not come to serve is taken back")
  func upgrades() throws {
    let file = try makeMemoryFile("keeper-test", bytes: 1)
    let stage = try Stage(held: [Self.key(0): file], layoutQuestion: ["-c", "echo \(Keeper.layoutVersion)"])
    let first = try stage.next()
    #expect(first.program.executable == "/bin/sh")
    let link = try first.link()
    link.tellReady()
    #expect(link.upgrade() == nil)

    let second = try stage.next()
    #expect(second.program.executable.hasPrefix("/proc/self/fd/") && second.program.path == first.program.path)
    #expect(try second.link().held.mapValues { inode($0) } == [Self.key(0): inode(file)])
    second.exit(1)

    let third = try stage.next()
    #expect(third.program.executable == "/bin/sh")
    #expect(try third.link().upgrade() == nil)
    let fourth = try stage.next()
    try fourth.link().tellReady()
    try fourth.kill()
    let fifth = try stage.next()
    #expect(fifth.program.executable == fourth.program.executable)
    fifth.exit(0)
    #expect(stage.end() == .success(0))
  }

  @Test("a service manager keeps what is held", arguments: [false, true])
  func serviceManager(isAbstract: Bool) throws {
    let directory = try TemporaryDirectory()
    let address = (isAbstract ? "@" : "") + "\(directory.path)/notify"
    let raw = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
    let descriptor = Descriptor(owning: raw)
    try withAddress(address, isAbstract: isAbstract, "listening") { bind(raw, $0, $1) }
    let manager = SequencedSocket(adopting: descriptor)
    func said() throws -> (text: String, inode: UInt?) {
      guard !Readable.wait(for: [descriptor], timeoutNanoseconds: waitLimitSeconds * 1_000_000_000).isEmpty,
        case .packet(let packet) = try manager.receive()
      else { return ("", nil) }
      return (String(decoding: packet.bytes, as: UTF8.self), inode(packet.descriptors.first))
    }
    let files = try (0..<3).map { _ in try makeMemoryFile("keeper-test", bytes: 1) }
    let stage = try Stage(held: [.activatedSocket: files[0]], serviceManagerAddress: address)
    #expect(try said() == ("FDSTORE=1\nFDPOLL=0\nFDNAME=sm.0.1.0", inode(files[0])))
    let worker = try stage.next()
    let link = try worker.link()
    link.tellReady()
    #expect(try said() == ("READY=1\nMAINPID=\(getpid())", nil))
    try link.hold([(Self.key(31), files[1])])
    #expect(try said() == ("FDSTORE=1\nFDPOLL=0\nFDNAME=sm.1.2.1f", inode(files[1])))
    try link.hold([(Self.key(31), files[2])])
    #expect(try said() == ("FDSTOREREMOVE=1\nFDNAME=sm.1.2.1f", nil))
    #expect(try said() == ("FDSTORE=1\nFDPOLL=0\nFDNAME=sm.1.2.1f", inode(files[2])))
    link.drop(group: 1)
    link.drop(group: 1)
    #expect(try said() == ("FDSTOREREMOVE=1\nFDNAME=sm.1.2.1f", nil))
    link.tellAlive("2 tenants")
    #expect(try said() == ("WATCHDOG=1\nSTATUS=2 tenants", nil))
    worker.exit(0)
    #expect(stage.end() == .success(0))
    #expect(try said() == ("STOPPING=1", nil))
    #expect(try said() == ("FDSTOREREMOVE=1\nFDNAME=sm.0.1.0", nil))
    #expect(stage.log.isEmpty)
  }

  @Test("what a service manager has kept or opened is found by name, or by being a listening socket")
  func listenDescriptors() async {
    // (In a process of its own: other tests may use these numbers, and read the environment.)
    await #expect(processExitsWith: .exitCode(0)) {
      func check(_ condition: Bool, line: Int32 = #line) { if !condition { _exit(line % 256) } }
      let first: Int32 = 800
      func put(_ number: Int32, _ descriptor: Descriptor) { check(dup2(descriptor.raw, first + number) >= 0) }
      let file = try makeMemoryFile("keeper-test", bytes: 1)
      let directory = try TemporaryDirectory()
      let listener = try SocketListener(path: "\(directory.path)/socket", mode: 0o600, group: nil)
      _ = fcntl(listener.descriptor.raw, F_SETFL, 0)
      put(0, file)
      put(1, file)
      put(2, listener.descriptor)
      let values = [
        "LISTEN_PID": "\(getpid())", "LISTEN_FDS": "4",
        "LISTEN_FDNAMES": "sm.1.2.3:stored:swap-monitor.socket:sm.1.2.4",
      ]
      check(Inheritance.fromServiceManager(first: first) { $0 == "LISTEN_PID" ? "1" : values[$0] }.held.isEmpty)
      do {
        let (held, isActivated) = Inheritance.fromServiceManager(first: first) { values[$0] }
        check(isActivated)
        check(
          held.mapValues { inode($0) }
            == [KeeperProcessTests.key(3): inode(file), .activatedSocket: inode(listener.descriptor)])
        check(held.values.allSatisfy { fcntl($0.raw, F_GETFD) == FD_CLOEXEC })
        check(fcntl(listener.descriptor.raw, F_GETFL) & O_NONBLOCK != 0)
      }
      for number in 0..<4 as Range<Int32> { check(fcntl(first + number, F_GETFD) == -1) }
      withExtendedLifetime((listener, directory)) {}
    }
  }
}
