/// When a worker dies: so many steps of the history's threads after a command has begun, or after the worker itself has.
package struct WorkerDeath: Sendable {
  /// The number of the command, from 1 on; 0 where it dies soon after it has begun to take over.
  package var command: Int
  package var steps: Int
  /// After so many more stores into the page tables, wherever that is: also between two under the ledger's lock.
  package var stores: Int?

  static func some(_ random: inout SimulationRandom, commandCount: Int, isOften: Bool) -> [WorkerDeath] {
    var deaths: [WorkerDeath] = []
    var command = random.within(1...max(1, commandCount))
    for number in 0..<random.pick(isOften ? [6, 10] : [1, 1, 2, 3, 5]) {
      let isSoon = number > 0 && random.chance(perMille: 500)
      if number > 0, !isSoon { command = min(command + random.within(0...2), commandCount) }
      deaths.append(
        WorkerDeath(
          command: isSoon ? 0 : command,
          steps: random.below(random.pick(isSoon ? [10, 40, 150] : isOften ? [20, 80, 200] : [20, 80, 300, 1000])),
          stores: random.chance(perMille: 250) ? random.below(random.pick([2, 8, 24])) : nil))
    }
    return deaths
  }
}
