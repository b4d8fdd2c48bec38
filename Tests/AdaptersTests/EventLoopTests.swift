import Domain
import Glibc
import Testing

@testable import Adapters

@Suite struct EventLoopTests {
  private static func ready(_ loop: EventLoop) throws -> [EventLoop.Ready] {
    let waited = try Background { () -> [EventLoop.Ready]? in
      do throws(SystemError) { return try loop.wait() } catch { return nil }
    }
    let found = try #require(waited.wait())  // in time
    return try #require(found)
  }

  @Test("what is ready is told with its token, as long as it is ready; what was removed is not")
  func tokens() throws {
    let loop = try EventLoop()
    let wakeUps = try (0..<5).map { _ in try WakeUp() }
    let tokens: [UInt64] = [0, 1, 0xFFFF_FFFF, 0x1_0000_0000, .max]
    for (wakeUp, token) in zip(wakeUps, tokens) { try loop.add(wakeUp.descriptor, token: token) }
    wakeUps[3].signal()
    wakeUps[4].signal()
    for _ in 0..<2 {
      let found = try Self.ready(loop)
      #expect(Set(found.map(\.token)) == [0x1_0000_0000, .max])
      #expect(found.allSatisfy { $0.isReadable && !$0.isWritable && !$0.isHungUp })
    }
    wakeUps[3].clear()
    #expect(try Self.ready(loop).map(\.token) == [.max])
    loop.remove(wakeUps[4].descriptor)
    wakeUps[0].signal()
    #expect(try Self.ready(loop).map(\.token) == [0])
    #expect(throws: SystemError.self) { try loop.add(wakeUps[0].descriptor, token: 9) }  // EEXIST
  }

  @Test("more than one wait's worth of descriptors all have their turn")
  func many() throws {
    let loop = try EventLoop()
    let wakeUps = try (0..<150).map { _ in try WakeUp() }
    for (number, wakeUp) in wakeUps.enumerated() {
      try loop.add(wakeUp.descriptor, token: UInt64(number))
      wakeUp.signal()
    }
    var seen: Set<UInt64> = []
    for _ in 0..<10 where seen.count < 150 {
      for ready in try Self.ready(loop) {
        seen.insert(ready.token)
        wakeUps[Int(ready.token)].clear()
      }
    }
    #expect(seen.count == 150)
  }

  @Test("readiness to write and hang-ups are told, and interest can be changed")
  func sockets() throws {
    var ends: [Int32] = [0, 0]
    let kind = Int32(SOCK_SEQPACKET.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
    try #require(socketpair(AF_UNIX, kind, 0, &ends) == 0)
    let one = Descriptor(owning: ends[0])
    var other: Descriptor? = Descriptor(owning: ends[1])
    let wakeUp = try WakeUp()
    let loop = try EventLoop()
    try loop.add(wakeUp.descriptor, token: 2)
    try loop.add(one, token: 1, writable: true)
    let writable = try #require(try Self.ready(loop).first)
    #expect(writable.token == 1 && writable.isWritable && !writable.isReadable)
    var byte: UInt8 = 1
    #expect(write(try #require(other).raw, &byte, 1) == 1)
    try loop.change(one, token: 3, readable: false, writable: false)
    wakeUp.signal()
    #expect(try Self.ready(loop).map(\.token) == [2])
    wakeUp.clear()
    try loop.change(one, token: 3, readable: true, writable: false)
    let readable = try #require(try Self.ready(loop).first)
    #expect(readable.token == 3 && readable.isReadable && !readable.isWritable && !readable.isHungUp)
    other = nil
    #expect(try eventually { try Self.ready(loop).contains { $0.token == 3 && $0.isHungUp } })
  }

  @Test("SIGTERM and SIGINT are read, not suffered")
  func endSignals() throws {
    // In a thread of its own: what it blocks, and is sent, is its own business.
    let taken = try Background { () -> [Int32?] in
      do throws(SystemError) {
        let signals = try EndSignals()
        var taken = [signals.take()]
        pthread_kill(pthread_self(), SIGTERM)
        taken.append(signals.take())
        pthread_kill(pthread_self(), SIGINT)
        taken += [signals.take(), signals.take()]
        return taken
      } catch { return [] }
    }
    #expect(taken.wait() == [nil, SIGTERM, SIGINT, nil])
  }
}
