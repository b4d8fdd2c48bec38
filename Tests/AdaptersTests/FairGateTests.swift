import Domain
import Glibc
import Testing

@testable import Adapters

/// What the gate guards; the gate is all that keeps it from being torn.
private final class Guarded: @unchecked Sendable {
  var first = 0
  var second = 0
  var order: [Int] = []
}

@Suite struct FairGateTests {
  /// How many have asked so far: the queue's end.
  private static func tickets(_ gate: FairGate) -> UInt64 { hidden("nextTicket", in: gate, as: UInt64.self) ?? .max }

  @Test("exclusive holders are alone, and shared ones see nothing half done")
  func mutualExclusion() throws {
    let gate = FairGate()
    let guarded = Guarded()
    let rounds = 400
    let writers = try (0..<3).map { _ in
      try Background { () -> Bool in
        for _ in 0..<rounds {
          gate.exclusive {
            guarded.first += 1
            sched_yield()
            guarded.second += 1
          }
        }
        return true
      }
    }
    let readers = try (0..<3).map { _ in
      try Background { () -> Bool in
        var isWhole = true
        for _ in 0..<rounds {
          gate.shared {
            let before = guarded.first
            sched_yield()
            if guarded.second != before { isWhole = false }
          }
        }
        return isWhole
      }
    }
    #expect(writers.allSatisfy { $0.wait() == true })
    #expect(readers.allSatisfy { $0.wait() == true })
    #expect(guarded.first == 3 * rounds && guarded.second == 3 * rounds)
  }

  @Test("shared holders hold it together")
  func sharing() throws {
    let gate = FairGate()
    gate.lock(.shared)
    let other = try Background { gate.shared { true } }
    #expect(other.wait() == true)
    gate.unlock(.shared)
  }

  @Test("who gives copies back holds it beside all but exclusive holders; who reads events does beside nobody else")
  func kinds() throws {
    let together: [Set<GateHold>] = [[.shared], [.releasing], [.shared, .releasing], [.changing, .releasing]]
    for held in GateHold.allCases {
      for asked in GateHold.allCases {
        let gate = FairGate()
        gate.lock(held)
        let other = try Background { gate.held(asked) { true } }
        let mayEnter = together.contains([held, asked])
        if mayEnter { #expect(other.wait() == true) } else { #expect(eventually { gate.isWanted }) }
        gate.unlock(held)
        if !mayEnter { #expect(other.wait() == true) }
      }
    }
  }

  @Test("a holder sees that somebody waits, and nobody when it is alone")
  func wanted() throws {
    let gate = FairGate()
    for hold in GateHold.allCases {
      gate.lock(hold)
      #expect(!gate.isWanted)
      let other = try Background { gate.exclusive { true } }
      let deadline = SystemClock().nowNanoseconds + 10_000_000_000
      while !gate.isWanted, SystemClock().nowNanoseconds < deadline { sched_yield() }
      #expect(gate.isWanted)
      gate.unlock(hold)
      #expect(other.wait() == true)
      #expect(!gate.isWanted)
    }
  }

  @Test("an exclusive waiter gets in while shared holders keep coming")
  func exclusiveIsNotStarved() throws {
    let gate = FairGate()
    let over = Counter()
    // Three that overlap all the time: there is never a moment without a shared holder unless the gate makes one.
    let readers = try (0..<3).map { _ in
      try Background { () -> Bool in
        while over.value == 0 { gate.shared { _ = usleep(300) } }
        return true
      }
    }
    defer { over.increment() }
    let writer = try Background { () -> Bool in
      for _ in 0..<20 { gate.exclusive {} }
      return true
    }
    #expect(writer.wait() == true)
    over.increment()
    #expect(readers.allSatisfy { $0.wait() == true })
  }

  @Test("a shared waiter gets in while exclusive holders keep coming")
  func sharedIsNotStarved() throws {
    let gate = FairGate()
    let over = Counter()
    let writers = try (0..<3).map { _ in
      try Background { () -> Bool in
        while over.value == 0 { gate.exclusive { _ = usleep(300) } }
        return true
      }
    }
    defer { over.increment() }
    let reader = try Background { () -> Bool in
      for _ in 0..<20 { gate.shared {} }
      return true
    }
    #expect(reader.wait() == true)
    over.increment()
    #expect(writers.allSatisfy { $0.wait() == true })
  }

  @Test(
    "first come, first served: behind an exclusive waiter a shared one waits, although the gate is held shared"
  )
  func order() throws {
    let gate = FairGate()
    let guarded = Guarded()
    gate.lock(.shared)
    let start = Self.tickets(gate)
    var waiters: [Background<Bool>] = []
    for number in 0..<6 {
      waiters.append(
        try Background {
          // Numbers 0, 2 and 4 want it alone; the ones between share, each alone for want of company.
          if number % 2 == 0 {
            gate.exclusive { guarded.order.append(number) }
          } else {
            gate.shared { guarded.order.append(number) }
          }
          return true
        })
      try #require(eventually { Self.tickets(gate) == start + UInt64(number) + 1 })
    }
    settle()
    #expect(guarded.order.isEmpty)
    gate.unlock(.shared)
    #expect(waiters.allSatisfy { $0.wait() == true })
    #expect(guarded.order == [0, 1, 2, 3, 4, 5])
  }

  @Test("shared waiters in a row get in together, once the exclusive holder leaves")
  func sharedRow() throws {
    let gate = FairGate()
    gate.lock(.exclusive)
    let inside = Counter()
    let waiters = try (0..<3).map { _ in
      try Background { () -> Bool in
        gate.shared {
          inside.increment()
          return eventually { inside.value == 3 }  // each holds on until all three are in
        }
      }
    }
    settle()
    #expect(inside.value == 0)
    gate.unlock(.exclusive)
    #expect(waiters.allSatisfy { $0.wait() == true })
    #expect(try Background { gate.exclusive { true } }.wait() == true)
  }

  @Test("what is thrown under the gate leaves it free")
  func throwing() throws {
    let gate = FairGate()
    let failure = PortFailure(.installPage, errorNumber: EIO)
    #expect(throws: failure) { try gate.exclusive { () throws(PortFailure) in throw failure } }
    #expect(throws: failure) { try gate.shared { () throws(PortFailure) in throw failure } }
    #expect(try Background { gate.exclusive { true } }.wait() == true)
  }
}
