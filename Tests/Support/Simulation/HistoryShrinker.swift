/// Makes a failing history smaller: drops tasks, commands and operations for as long as some history of what is left
/// still fails. What is left runs otherwise than before, so each candidate is tried under a few schedules.
struct HistoryShrinker {
  private static let schedulesTried: UInt64 = 6
  private var runsLeft = 1000
  private let defect: Defect?

  init(defect: Defect?) { self.defect = defect }

  mutating func shrink(_ plan: HistoryPlan) -> HistoryPlan {
    var smallest = plan
    var hasShrunk = true
    while hasShrunk, runsLeft > 0 {
      hasShrunk = false
      for candidate in Self.candidates(smallest) {
        guard let failing = firstFailing(candidate) else { continue }
        smallest = failing
        hasShrunk = true
        break
      }
    }
    return smallest
  }

  private mutating func firstFailing(_ plan: HistoryPlan) -> HistoryPlan? {
    for number in 0..<Self.schedulesTried where runsLeft > 0 {
      var candidate = plan
      candidate.scheduleSeed &+= number
      runsLeft -= 1
      if History.run(candidate, defect: defect).failure != nil { return candidate }
    }
    return nil
  }

  /// Large steps first.
  private static func candidates(_ plan: HistoryPlan) -> [HistoryPlan] {
    var found: [HistoryPlan] = []
    func add(_ change: (inout HistoryPlan) -> Void) {
      var candidate = plan
      change(&candidate)
      found.append(candidate)
    }
    for index in plan.deaths.indices { add { $0.deaths.remove(at: index) } }
    for index in plan.tasks.indices where plan.tasks.count > 1 { add { $0.tasks.remove(at: index) } }
    for index in plan.commands.indices.reversed() where plan.commands.count > 1 {
      add { $0.commands.remove(at: index) }
    }
    for index in plan.tasks.indices {
      let count = plan.tasks[index].operations.count
      var piece = count / 2
      while piece >= 1 {
        for start in stride(from: 0, to: count, by: piece) {
          add { $0.tasks[index].operations.removeSubrange(start..<min(count, start + piece)) }
        }
        piece = piece == 1 ? 0 : max(1, piece / 4)
      }
    }
    if plan.delaysPerMille > 0 { add { $0.delaysPerMille = 0 } }
    return found
  }
}
