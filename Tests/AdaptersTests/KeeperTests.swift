import Glibc
import Testing

@testable import Adapters

struct KeeperTests {
  private static func key(_ index: Int, group: UInt64 = 9) -> HeldKey {
    HeldKey(group: group, role: 2, index: UInt32(index))
  }

  private static func files(_ count: Int, _ name: String) throws -> [Descriptor] {
    try (0..<count).map { _ in try makeMemoryFile(name, bytes: 4096) }
  }

  @Test(
    "what is held goes to every next worker; what is dropped or replaced does not", arguments: [1, 199, 200, 201, 450])
  func handsOver(count: Int) throws {
    let name = "keeper-test-\(count)"
    do {
      let stage = try Stage()
      let worker = try stage.next()
      var link: KeeperLink? = try worker.link()
      #expect(link?.held.isEmpty == true)
      let files = try Self.files(count + 2, name)
      try link?.hold((0..<count).map { (Self.key($0), files[$0]) })
      try link?.hold([(Self.key(0), files[count])])
      try link?.hold([(Self.key(0, group: 10), files[count + 1]), (Self.key(1, group: 10), files[count + 1])])
      link?.drop(Self.key(0, group: 10))
      link?.drop(Self.key(0, group: 10))
      link?.drop(Self.key(7, group: 11))
      let expected = link?.held.mapValues { inode($0) }
      #expect(expected?.count == count + 1)
      link?.tellReady()
      try worker.kill()
      link = nil

      let second = try stage.next()
      link = try second.link()
      #expect(link?.held.mapValues { inode($0) } == expected)
      #expect(stage.log == ["worker \(worker.process.pid) was killed by signal 9; starting another"])
      link?.drop(group: 9)
      try second.kill()
      link = nil

      let third = try stage.next()
      link = try third.link()
      #expect(link?.held.keys.map { $0 } == [Self.key(1, group: 10)])
      third.exit(0)
      #expect(stage.end() == .success(0))
    }
    #expect(eventually { openDescriptors { $0.hasPrefix("/memfd:\(name) ") }.isEmpty })
  }

  @Test("bytes are stored, replaced and found again")
  func stores() throws {
    let stage = try Stage()
    let worker = try stage.next()
    let link = try worker.link()
    let large = (0..<300_000).map { UInt8(truncatingIfNeeded: $0 / 7) }
    for bytes in [large, [], [1, 2, 3]] {
      try link.store(bytes, as: Self.key(0))
      #expect(link.stored(Self.key(0)) == bytes)
    }
    try link.store(large, as: Self.key(1))
    #expect(link.stored(Self.key(2)) == nil)
    try worker.kill()
    let second = try stage.next()
    let next = try second.link()
    #expect(next.stored(Self.key(0)) == [1, 2, 3])
    #expect(next.stored(Self.key(1)) == large)
    second.exit(0)
    #expect(stage.end() == .success(0))
  }

  @Test("a first worker that can't start ends the daemon; one that had served is followed")
  func exitCodes() throws {
    let failing = try Stage()
    try failing.next().exit(3)
    #expect(failing.end() == .success(3))

    let stage = try Stage(held: [.activatedSocket: try makeMemoryFile("keeper-test", bytes: 1)])
    let first = try stage.next()
    try first.link().tellReady()
    first.exit(3)
    let second = try stage.next()
    second.exit(4)
    stage.failStarts(2)
    try stage.next().exit(0)
    #expect(stage.end() == .success(0))
    #expect(
      stage.deaths == [
        "worker \(first.process.pid) has ended with exit code 3; starting another",
        "worker \(second.process.pid) has ended with exit code 4; starting another",
        "no worker can be started, trying again: \(SystemError("starting a worker", errorNumber: EAGAIN))",
        "no worker can be started, trying again: \(SystemError("starting a worker", errorNumber: EAGAIN))",
      ])
  }

  @Test("a keeper with tenants to look after never gives up")
  func inheritedTenants() throws {
    let stage = try Stage(held: [Self.key(0): try makeMemoryFile("keeper-test", bytes: 1)])
    try stage.next().exit(3)
    try stage.next().exit(0)
    #expect(stage.end() == .success(0))
  }

  @Test("a worker that dies while it is handed everything is followed too")
  func deathInHandOver() throws {
    let files = try Self.files(600, "keeper-test-hand-over")
    let stage = try Stage(held: Dictionary(uniqueKeysWithValues: files.enumerated().map { (Self.key($0), $1) }))
    for _ in 0..<3 { try stage.next().kill() }
    let worker = try stage.next()
    let link = try worker.link()
    #expect(
      link.held.mapValues { inode($0) }
        == [HeldKey: UInt?](
          uniqueKeysWithValues: files.enumerated().map { (Self.key($0), inode($1)) }))
    worker.exit(0)
    #expect(stage.end() == .success(0))
  }

  @Test("a worker that lets go of its link, and does not end, is ended")
  func linkLost() throws {
    let starts = Counter()
    let start: Keeper.Start = { _, _ throws(SystemError) in
      starts.increment()
      let script = starts.value == 1 ? "exec sleep 60" : "exit 0"
      return StartedWorker(process: try ChildProcess.spawn("/bin/sh", name: "sh", ["-c", script]) { _ in })
    }
    let stage = try Stage(start: (start, { _ in }))
    #expect(stage.end() == .success(0))
    #expect(stage.log.count == 1 && stage.log[0].hasSuffix("was killed by signal 9; starting another"))
  }

  @Test("what makes no sense costs the worker its life, and nothing else")
  func malformed() throws {
    let file = try makeMemoryFile("keeper-test", bytes: 1)
    let stage = try Stage(held: [Self.key(5): file])
    let hold = LinkPacket(.hold, keys: [Self.key(0)]).bytes
    let senseless: [[UInt8]] = [
      [1], [UInt8](repeating: 0xFF, count: 40), hold, Array(hold.dropLast()), LinkPacket(.hold).bytes,
      LinkPacket(.dropGroup).bytes, LinkPacket(.inventory, keys: [Self.key(0)]).bytes, LinkPacket(.done).bytes,
      [UInt8](repeating: 0, count: SequencedSocket.packetLimit + 1),
    ]
    for bytes in senseless {
      let worker = try stage.next()
      let link = try worker.link()
      #expect(link.held.mapValues { inode($0) } == [Self.key(5): inode(file)])
      #expect(try SequencedSocket(adopting: link.descriptor).send(bytes))
      withExtendedLifetime(link) { #expect(eventually { !worker.process.isAlive }) }
    }
    try stage.next().exit(0)
    #expect(stage.end() == .success(0))
    #expect(stage.log.count { $0.hasSuffix("sends what makes no sense: killing it") } == senseless.count)
  }

  @Test("packets: all come back, and no bytes trap")
  func packets() {
    for kind in LinkPacket.Kind.allCases {
      for count in [0, 1, 2, LinkPacket.keyLimit] {
        let packet = LinkPacket(kind, keys: (0..<count).map { Self.key($0, group: .max - 3) }, text: [1, 0, 2])
        #expect(LinkPacket(packet.bytes) == packet)
      }
    }
    for number in 0..<10_000 as Range<UInt64> {
      let word = SplitMix.mix(number)
      let bytes = (0..<word % 60).map { UInt8(truncatingIfNeeded: SplitMix.mix(word &+ $0) % ($0 < 8 ? 3 : 256)) }
      if let packet = LinkPacket(bytes) { #expect(packet.bytes == bytes) }
    }
  }

  @Test("keys have names, and nothing else has")
  func names() {
    let key = HeldKey(group: .max, role: 0xAB, index: 0)
    #expect(key.name == "sm.ffffffffffffffff.ab.0")
    #expect(HeldKey(name: key.name) == key)
    for name in ["", "sm", "sm.1.2", "sm.1.2.3.4", "sm.1.2.", "sm.g.2.3", "s.1.2.3", "sm.1.100000000.3", "stored"] {
      #expect(HeldKey(name: name) == nil)
    }
  }

  @Test("restarts: at once, then slower while workers die young")
  func delays() {
    var delay = RestartDelay()
    let milliseconds = (0..<14).map { _ in delay.next(livedNanoseconds: 249_999_999) / 1_000_000 }
    #expect(milliseconds == [0, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 5000, 5000, 5000, 5000])
    for _ in 0..<100 { #expect(delay.next(livedNanoseconds: 0) == 5_000_000_000) }
    #expect(delay.next(livedNanoseconds: 250_000_000) == 0)
    #expect((0..<3).map { _ in delay.next(livedNanoseconds: 0) } == [0, 10_000_000, 20_000_000])
    #expect(delay.shortLives == 3)
  }

  @Test("without its keeper a worker goes on, and notes down what is to be held")
  func alone() throws {
    var ends: [Int32] = [0, 0]
    try #require(socketpair(AF_UNIX, Int32(SOCK_SEQPACKET.rawValue | SOCK_CLOEXEC.rawValue), 0, &ends) == 0)
    var keeper: SequencedSocket? = SequencedSocket(adopting: Descriptor(owning: ends[0]))
    #expect(try keeper?.send(LinkPacket(.inventoryEnd, text: Int32(1).bytes).bytes) == true)
    let link = try KeeperLink(socket: Descriptor(owning: ends[1]))
    keeper = nil
    let file = try makeMemoryFile("keeper-test", bytes: 1)
    try link.hold([(Self.key(0), file), (Self.key(1), file)])
    try link.store([1, 2], as: Self.key(2))
    link.drop(Self.key(1))
    link.tellReady()
    #expect(Set(link.held.keys) == [Self.key(0), Self.key(2)])
    #expect(link.stored(Self.key(2)) == [1, 2])
    #expect(link.upgrade() == "the keeper is dead")
    #expect(Readable.wait(for: [link.descriptor], timeoutNanoseconds: waitLimitSeconds * 1_000_000_000).count == 1)
    #expect(Inheritance.execute("/nowhere", ["x"], passing: link.held).errorNumber == ENOENT)
    #expect(fcntl(file.raw, F_GETFD) == FD_CLOEXEC)
  }

  @Test("an inventory that ends too early is an error")
  func brokenInventory() throws {
    for packets in [
      [], [LinkPacket(.inventory, keys: [Self.key(0)])], [LinkPacket(.ready)], [LinkPacket(.inventoryEnd)],
      [LinkPacket(.inventoryEnd, text: [1, 2, 3])],
    ] {
      var ends: [Int32] = [0, 0]
      try #require(socketpair(AF_UNIX, Int32(SOCK_SEQPACKET.rawValue | SOCK_CLOEXEC.rawValue), 0, &ends) == 0)
      var keeper: SequencedSocket? = SequencedSocket(adopting: Descriptor(owning: ends[0]))
      for packet in packets { #expect(try keeper?.send(packet.bytes) == true) }
      keeper = nil
      #expect(throws: SystemError.self) { try KeeperLink(socket: Descriptor(owning: ends[1])) }
    }
  }
}
