internal import Adapters

/// Kills the worker at random moments, and measures how long it takes until everybody goes on.
///
/// Most get to live for a while; some are killed again as they take over.
final class TortureKiller {
  private(set) var kills = 0
  /// In nanoseconds, of those that were waited for.
  private(set) var recoveries: [UInt64] = []

  private let keeper: ProcessHandle
  private var random: RandomSequence
  private var due: UInt64
  private let clock = SystemClock()

  private static let lifeNanoseconds: UInt64 = 1_000_000_000
  private static let longestTakeOverNanoseconds: UInt64 = 30_000_000
  private static let lookMicroseconds: UInt32 = 200

  init(keeper: ProcessHandle, seed: UInt64) {
    self.keeper = keeper
    random = RandomSequence(seed: seed)
    due = clock.nowNanoseconds
    setDue()
  }

  var isDue: Bool { clock.nowNanoseconds >= due }

  /// - Parameters:
  ///   - connect: makes a fresh connection.
  ///   - hasRecovered: whether every writer has got on since a time.
  ///   - isPatient: false when the wait has to end.
  /// - Returns: false when it ended before everybody went on.
  func kill(
    connect: () throws(CommandFailure) -> Client, hasRecovered: (_ since: UInt64) -> Bool, isPatient: () -> Bool
  ) throws(CommandFailure) -> Bool {
    defer { setDue() }
    var start = clock.nowNanoseconds
    guard killWorker() else { return true }
    while random.next(4) == 0 {
      clock.sleep(microseconds: UInt32(random.next(Self.longestTakeOverNanoseconds) / 1000))
      let again = clock.nowNanoseconds
      if killWorker() { start = again }
    }
    let client = try connect()
    try client.send(["op": "status", "tenant": .string(TortureTenant.name)])
    var isAnswered = false
    while !isAnswered || !hasRecovered(start) {
      guard isPatient() else { return false }
      if !isAnswered && !Readable.wait(for: [client.descriptor], timeoutNanoseconds: 0).isEmpty {
        _ = try Client.accepted(try client.receive())
        isAnswered = true
      }
      clock.sleep(microseconds: Self.lookMicroseconds)
    }
    recoveries.append(clock.nowNanoseconds - start)
    return true
  }

  /// - Returns: false where there is none just now.
  private func killWorker() -> Bool {
    let workers = keeper.workers()
    workers.forEach { $0.kill() }
    kills += workers.count
    return !workers.isEmpty
  }

  /// Most live for so long that the keeper does not take them for a program that can't run, and make the next one wait.
  private func setDue() {
    due = clock.nowNanoseconds + random.next(Self.lifeNanoseconds) + (random.next(4) == 0 ? 0 : Self.lifeNanoseconds)
  }
}
