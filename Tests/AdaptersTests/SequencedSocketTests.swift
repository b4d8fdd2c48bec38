import Glibc
import Testing

@testable import Adapters

@Suite struct SequencedSocketTests {
  private static func makePair() throws -> (SequencedSocket, SequencedSocket) {
    var ends: [Int32] = [0, 0]
    let kind = Int32(SOCK_SEQPACKET.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
    try #require(socketpair(AF_UNIX, kind, 0, &ends) == 0)
    let (first, second) = (Descriptor(owning: ends[0]), Descriptor(owning: ends[1]))
    return (try SequencedSocket(accepted: first), try SequencedSocket(accepted: second))
  }

  private static func packet(_ received: SequencedSocket.Received) -> Packet? {
    if case .packet(let packet) = received { packet } else { nil }
  }

  private static func isClosed(_ received: SequencedSocket.Received) -> Bool {
    if case .closed = received { true } else { false }
  }

  private static func isNothing(_ received: SequencedSocket.Received) -> Bool {
    if case .nothingYet = received { true } else { false }
  }

  /// Memfds with a name of their own, by which they are found in /proc/self/fd.
  private static func makeFiles(_ count: Int, _ name: String) throws -> [Descriptor] {
    try (0..<count).map { try makeMemoryFile(name, bytes: ($0 + 1) * 4096) }
  }

  private static func openFiles(_ name: String) -> Int { openDescriptors { $0.hasPrefix("/memfd:\(name) ") }.count }

  @Test("packets keep their bounds, their order and their bytes", arguments: [1, 2, 4095, 4096, 60_000, 65_536])
  func packets(length: Int) throws {
    let (one, other) = try Self.makePair()
    let bytes = (0..<length).map { UInt8(truncatingIfNeeded: SplitMix.mix(UInt64($0))) }
    #expect(try one.send(bytes))
    #expect(try one.send([1, 2, 3]))
    let first = try #require(Self.packet(try other.receive()))
    #expect(first.bytes == bytes)
    #expect(!first.isTruncated && !first.lostDescriptors && first.descriptors.isEmpty)
    #expect(try #require(Self.packet(try other.receive())).bytes == [1, 2, 3])
    #expect(Self.isNothing(try other.receive()))
  }

  @Test("an empty packet is a packet; the connection's end is none")
  func emptyAndClosed() throws {
    var (one, other): (SequencedSocket?, SequencedSocket) = try Self.makePair()
    #expect(try one?.send([]) == true)
    #expect(try #require(Self.packet(try other.receive())).bytes.isEmpty)
    #expect(Self.isNothing(try other.receive()))
    #expect(try one?.send([7]) == true)
    #expect(try one?.send([]) == true)
    one = nil
    // What was sent before the end comes before it. (A child of another test may hold the end for an instant.)
    #expect(try #require(Self.packet(try other.receive())).bytes == [7])
    #expect(try #require(Self.packet(try other.receive())).bytes.isEmpty)
    #expect(try eventually { Self.isClosed(try other.receive()) })
    #expect(throws: SystemError.self) { try other.send([1]) }  // EPIPE, and no signal
  }

  @Test("a packet that is too long is marked, and the next one is whole")
  func truncated() throws {
    let (one, other) = try Self.makePair()
    let long = [UInt8](repeating: 5, count: SequencedSocket.packetLimit + 1)
    #expect(try one.send(long))
    #expect(try one.send(long + long))
    #expect(try one.send([9]))
    for _ in 0..<2 {
      let packet = try #require(Self.packet(try other.receive()))
      #expect(packet.isTruncated)
      #expect(packet.bytes.count == SequencedSocket.packetLimit)
    }
    let next = try #require(Self.packet(try other.receive()))
    #expect(next.bytes == [9] && !next.isTruncated)
  }

  @Test("descriptors travel, in order, close-on-exec, and are closed with the packet", arguments: [1, 2, 3, 65, 253])
  func descriptors(count: Int) throws {
    let name = "socket-test-\(count)"
    let (one, other) = try Self.makePair()
    do {
      let sent = try Self.makeFiles(count, name)
      #expect(try one.send([1], descriptors: sent))
      let packet = try #require(Self.packet(try other.receive()))
      #expect(!packet.lostDescriptors)
      #expect(packet.descriptors.map { status(of: $0).st_ino } == sent.map { status(of: $0).st_ino })
      #expect(packet.descriptors.allSatisfy { fcntl($0.raw, F_GETFD) & FD_CLOEXEC != 0 })
      #expect(Set(packet.descriptors.map(\.raw)).isDisjoint(with: sent.map(\.raw)))
      #expect(Self.openFiles(name) == 2 * count)
    }
    #expect(Self.openFiles(name) == 0)
  }

  @Test("more descriptors than the kernel passes are an error, and none leaks")
  func tooMany() throws {
    let (one, other) = try Self.makePair()
    do {
      let sent = try Self.makeFiles(1, "socket-test-many")
      let many = [Descriptor](repeating: sent[0], count: SequencedSocket.descriptorLimit + 1)
      #expect(throws: SystemError.self) { try one.send([1], descriptors: many) }
      #expect(Self.isNothing(try other.receive()))
    }
    #expect(Self.openFiles("socket-test-many") == 0)
  }

  @Test("descriptors with an empty packet are not the connection's end; unread ones leak neither")
  func emptyWithDescriptors() throws {
    do {
      let (one, other) = try Self.makePair()
      #expect(try one.send([], descriptors: try Self.makeFiles(2, "socket-test-empty")))
      #expect(try #require(Self.packet(try other.receive())).descriptors.count == 2)
      #expect(try one.send([1], descriptors: try Self.makeFiles(2, "socket-test-empty")))
    }
    #expect(Self.openFiles("socket-test-empty") == 0)
  }

  @Test("a sender whose reader does not read is told so, without waiting")
  func full() throws {
    let (one, other) = try Self.makePair()
    let bytes = [UInt8](repeating: 1, count: 30_000)
    var sent = 0
    while sent < 10_000, try one.send(bytes) { sent += 1 }
    #expect((1..<10_000).contains(sent))
    #expect(Self.packet(try other.receive())?.bytes == bytes)
    #expect(try eventually { try one.send(bytes) })
  }

  @Test("damaged control data yields only what lies within it")
  func damagedControl() throws {
    func parse(_ bytes: [UInt8]) -> Int {
      // (Through 64-bit words, which are aligned as the kernel's data is.)
      var words = [UInt64](repeating: 0, count: (bytes.count + 7) / 8)
      return words.withUnsafeMutableBytes { space in
        space.copyBytes(from: bytes)
        return ControlMessage.descriptors(in: UnsafeRawBufferPointer(space), count: bytes.count).count
      }
    }
    let file = try makeMemoryFile("socket-test-control", bytes: 4096)
    let whole = ControlMessage.make([Descriptor(owning: dup(file.raw))])
    #expect(whole.count == 24)
    for length in 0..<16 { #expect(parse(Array(whole[0..<length])) == 0) }
    var tooLong = whole
    tooLong[0] = 200
    #expect(parse(tooLong) == 0)
    var tooShort = whole
    tooShort[0] = 8
    #expect(parse(tooShort) == 0)
    var otherKind = whole
    otherKind[12] = 2  // SCM_CREDENTIALS
    #expect(parse(otherKind) == 0)
  }

  @Test("the peer is who connected")
  func peer() throws {
    let (one, other) = try Self.makePair()
    let peer = try one.peer()
    #expect(peer.user == geteuid())
    #expect(peer.process?.pid == getpid())
    #expect(peer.process?.isAlive == true)
    withExtendedLifetime(other) {}
  }
}
