import Glibc
import Testing

@testable import Adapters

@_extern(c, "ptrace") private func c_ptrace(_ request: Int, _ pid: Int, _ address: Int, _ data: Int) -> Int

struct RequestRecordTests {
  /// A client's end, the daemon's end and the record of that connection.
  private struct Connection {
    let client: SequencedSocket
    let server: SequencedSocket
    let record: RequestRecord

    init() throws {
      var ends: [Int32] = [0, 0]
      let kind = Int32(SOCK_SEQPACKET.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
      try #require(socketpair(AF_UNIX, kind, 0, &ends) == 0)
      client = try SequencedSocket(accepted: Descriptor(owning: ends[0]))
      server = try SequencedSocket(accepted: Descriptor(owning: ends[1]))
      record = try RequestRecord()
    }

    /// What another process's connection is once that process is dead.
    init(of child: Child, _ numbers: [Int32]) throws {
      client = SequencedSocket(adopting: try child.take(numbers[0]))
      server = SequencedSocket(adopting: try child.take(numbers[1]))
      record = try RequestRecord(adopting: try child.take(numbers[2]))
    }

    var numbers: [Int32] { [client, server].map(\.descriptor.raw) + [record.descriptor.raw] }

    /// The record as the next worker finds it.
    func adopted() throws -> RequestRecord {
      try RequestRecord(adopting: Descriptor(owning: fcntl(record.descriptor.raw, F_DUPFD_CLOEXEC, 0)))
    }
  }

  private static func packet(_ received: SequencedSocket.Received) -> Packet? {
    if case .packet(let packet) = received { packet } else { nil }
  }

  private static func bytes(_ count: Int, seed: UInt64) -> [UInt8] {
    let pattern = (0..<64).map { UInt8(truncatingIfNeeded: SplitMix.mix(seed &+ UInt64($0))) }
    return (0..<count).map { pattern[($0 ^ $0 >> 6) & 63] }
  }

  @Test("whoever takes over sees how far the dead one came", arguments: 0...4)
  func deathBetweenSteps(steps: Int) throws {
    let child = try Child { inside in
      let connection = try Connection()
      _ = try connection.client.send([1, 2, 3])
      if steps > 0 { _ = try connection.server.peek() }
      if steps > 1 { try connection.server.take(into: connection.record) }
      if steps > 2 { connection.record.accept(serial: 77) }
      if steps > 3 { _ = try connection.server.send([4, 5], ending: connection.record) }
      connection.numbers.forEach(inside.tell)
      inside.waitForEver()
    }
    let numbers = (0..<3).compactMap { _ in child.hear() }
    try #require(numbers.count == 3)
    let connection = try Connection(of: child, numbers)
    #expect(child.end(signal: SIGKILL) == .signal(SIGKILL))

    let record = try connection.adopted()
    switch steps {
    case 0, 1:
      #expect(record.phase == .idle && record.request == nil)
      #expect(Self.packet(try connection.server.peek())?.bytes == [1, 2, 3])
      try connection.server.take(into: record)
      #expect(record.phase == .taken)
    case 2: #expect(record.phase == .taken)
    case 3: #expect(record.phase == .accepted(serial: 77))
    default: #expect(record.phase == .idle && record.request == nil)
    }
    if steps < 4 {
      #expect(record.request == [1, 2, 3] && !record.isTruncated)
      #expect(try connection.server.send([4, 5], ending: record))
      #expect(record.phase == .idle)
    }
    #expect(Self.packet(try connection.client.receive())?.bytes == [4, 5])
    #expect(Self.packet(try connection.client.receive()) == nil)
    #expect(Self.packet(try connection.server.peek()) == nil)
  }

  @Test("a reply that was sent is seen as sent, even where nothing was cleared after it")
  func sentAndNotCleared() throws {
    let connection = try Connection()
    _ = try connection.client.send([1])
    try connection.server.take(into: connection.record)
    connection.record.accept(serial: 5)
    // What sendmmsg writes, and no more.
    let map = try #require(hidden("mapping", in: connection.record, as: MemoryMapping.self))
    (map.address + 128 + 56).storeBytes(of: 9, as: UInt32.self)
    #expect(connection.record.phase == .idle)
    let adopted = try connection.adopted()
    #expect(adopted.phase == .idle)
    _ = try connection.client.send([2])
    try connection.server.take(into: adopted)
    #expect(adopted.phase == .taken && adopted.request == [2])
  }

  @Test("killed on the way into, or out of, each system call: the request is answered once")
  func killedAtEachCall() throws {
    let (traceMe, untilNextCall) = (0, 24)  // PTRACE_TRACEME, PTRACE_SYSCALL
    var isOver = false
    var replyCounts = [0, 0]  // of the dead: none, one
    for stops in 0..<1000 where !isOver {
      let child = try Child { inside in
        let connection = try Connection()
        _ = try connection.client.send([1, 2])
        connection.numbers.forEach(inside.tell)
        _ = c_ptrace(traceMe, 0, 0, 0)
        raise(SIGSTOP)
        _ = try connection.server.peek()
        try connection.server.take(into: connection.record)
        connection.record.accept(serial: 1)
        _ = try connection.server.send([3], ending: connection.record)
        inside.waitForEver()
      }
      let numbers = (0..<3).compactMap { _ in child.hear() }
      try #require(numbers.count == 3)
      let connection = try Connection(of: child, numbers)
      func waitForStop() {
        var status: Int32 = 0
        #expect(waitpid(child.pid, &status, 0) == child.pid && status & 0xFF == 0x7F)
      }
      waitForStop()
      for _ in 0..<stops {
        #expect(c_ptrace(untilNextCall, Int(child.pid), 0, 0) == 0)
        waitForStop()
        // On its way into pause(2): that would be the last stop.
        let call = readText("/proc/\(child.pid)/syscall")?.split(separator: " ").first.flatMap { Int($0) }
        if call == Self.SYS_pause { isOver = true }
      }
      #expect(child.end(signal: SIGKILL) == .signal(SIGKILL))

      var replies = 0
      if Self.packet(try connection.client.receive())?.bytes == [3] { replies = 1 }
      replyCounts[replies] += 1
      let record = try connection.adopted()
      if record.phase == .idle, Self.packet(try connection.server.peek()) != nil {
        try connection.server.take(into: record)
      }
      #expect((record.phase == .idle) == (replies == 1), "after \(stops) stops")
      #expect(record.phase == .idle || record.request == [1, 2])
      #expect(Self.packet(try connection.client.receive()) == nil)
      #expect(Self.packet(try connection.server.peek()) == nil)
    }
    #expect(isOver && replyCounts[0] > 5 && replyCounts[1] > 0)
  }

  #if arch(x86_64)
    private static let SYS_pause = 34
  #elseif arch(arm64)
    private static let SYS_pause = 73  // ppoll, by which libc pauses there
  #endif

  @Test("killed at any instant: every request is answered once, in order")
  func killedAtAnyInstant() throws {
    for round in 0..<20 {
      let child = try Child { inside in
        let connection = try Connection()
        connection.numbers.forEach(inside.tell)
        while true {
          guard case .packet(let packet) = try connection.server.peek() else { continue }
          try connection.server.take(into: connection.record)
          connection.record.accept(serial: UInt64(packet.bytes[0]))
          while try !connection.server.send(packet.bytes, ending: connection.record) {}
        }
      }
      let numbers = (0..<3).compactMap { _ in child.hear() }
      try #require(numbers.count == 3)
      let connection = try Connection(of: child, numbers)
      var (sent, answered): ([UInt8], [UInt8]) = ([], [])
      func converse() throws {
        let next = UInt8(truncatingIfNeeded: sent.count)
        if try connection.client.send([next]) { sent.append(next) }
        while case .packet(let reply) = try connection.client.receive() { answered += reply.bytes }
      }
      let deadline = SystemClock().nowNanoseconds + SplitMix.mix(UInt64(round)) % 2_000_000
      while SystemClock().nowNanoseconds < deadline { try converse() }
      #expect(child.end(signal: SIGKILL) == .signal(SIGKILL))

      let record = try connection.adopted()
      func finish() throws {
        while try !connection.server.send(record.request ?? [], ending: record) { try converse() }
      }
      if record.phase != .idle { try finish() }
      while case .packet = try connection.server.peek() {
        try connection.server.take(into: record)
        try finish()
      }
      while case .packet(let reply) = try connection.client.receive() { answered += reply.bytes }
      #expect(answered == sent)
    }
  }

  @Test("ten thousand packets of any length, with a new worker now and then")
  func randomPackets() throws {
    let connection = try Connection()
    let file = try makeMemoryFile("record-test", bytes: 4096)
    var record = connection.record
    var random = (0...).lazy.map { SplitMix.mix(0x7EC0 &+ UInt64($0)) }.makeIterator()
    func pick(_ limit: Int) -> Int { Int((random.next() ?? 0) % UInt64(limit)) }
    let limit = SequencedSocket.packetLimit
    for number in 0..<10_000 {
      let lengths = [0, 1, pick(200), pick(200), pick(200), pick(5000)]
      let long = [limit - 1, limit, limit + 1, limit + 5000]
      let sent = Self.bytes(pick(40) == 0 ? long[pick(4)] : lengths[pick(6)], seed: UInt64(number))
      let descriptors = [Descriptor](repeating: file, count: pick(4) == 0 ? pick(10) : 0)
      #expect(try connection.client.send(sent, descriptors: descriptors))
      let peeked = try #require(Self.packet(try connection.server.peek()))
      #expect(peeked.descriptors.count == descriptors.count)
      try connection.server.take(into: record)
      if pick(5) == 0 { record = try connection.adopted() }
      #expect(record.phase == .taken)
      if pick(2) == 0 {
        record.accept(serial: UInt64(number))
        if pick(5) == 0 { record = try connection.adopted() }
        #expect(record.phase == .accepted(serial: UInt64(number)))
      }
      let expected = Array(sent.prefix(limit))
      #expect(record.request == expected && record.isTruncated == (sent.count > limit))
      #expect(peeked.bytes == expected && peeked.isTruncated == record.isTruncated)
      #expect(try connection.server.send(expected, ending: record))
      if pick(5) == 0 { record = try connection.adopted() }
      #expect(record.phase == .idle && record.request == nil && !record.isTruncated)
      #expect(try #require(Self.packet(try connection.client.receive())).bytes == expected)
      guard case .nothingYet = try connection.server.peek() else {
        Issue.record("packet \(number) is still there")
        return
      }
    }
    #expect(openDescriptors { $0.hasPrefix("/memfd:record-test ") } == [file.raw])
  }

  @Test("a client that does not read, or is gone, keeps its request")
  func unsent() throws {
    var connection: Connection? = try Connection()
    let (server, record) = try (#require(connection?.server), #require(connection?.record))
    #expect(try connection?.client.send([1]) == true)
    try server.take(into: record)
    let filling = [UInt8](repeating: 1, count: 30_000)
    while try server.send(filling) {}
    #expect(try !server.send(filling, ending: record))
    #expect(record.phase == .taken)
    #expect(throws: SystemError.self) { try server.take(into: RequestRecord()) }  // nothing more has come
    connection = nil
    #expect(throws: SystemError.self) { while try !server.send([1], ending: record) {} }
    #expect(record.phase == .taken && record.request == [1])
    let fresh = try RequestRecord()
    #expect(throws: SystemError.self) { try server.take(into: fresh) }  // the end is no packet
    #expect(fresh.phase == .idle)
  }

  @Test("only a record is adopted")
  func strangers() throws {
    for bytes in [0, 4096, 4096 + SequencedSocket.packetLimit + 1] {
      let file = try makeMemoryFile("no-record", bytes: bytes)
      #expect(throws: SystemError.self) { try RequestRecord(adopting: file) }
    }
  }
}
