import Domain
import TestSupport
import Testing

@Suite struct PageBitmapTests {
  /// Around both word edges of a bitmap of at most 130 places.
  static let edges = [0, 1, 2, 31, 62, 63, 64, 65, 66, 126, 127, 128, 129, 130]

  /// What the bitmap's searches should find, the slow way.
  struct Model {
    let capacity: Int
    var members: Set<Int> = []

    func nextMember(from start: Int) -> Int? {
      start < capacity ? (start..<capacity).first(where: members.contains) : nil
    }
    func nextGap(from start: Int) -> Int? {
      start < capacity ? (start..<capacity).first { !members.contains($0) } : nil
    }
    func nextRun(from start: Int, before end: Int, limit: Int) -> Range<Int>? {
      let end = min(end, capacity)
      guard limit > 0, start < end, let first = (start..<end).first(where: members.contains) else { return nil }
      var last = first
      while last < end, last - first < limit, members.contains(last) { last += 1 }
      return first..<last
    }
  }

  /// All capacities up to 130 pages, filled in ways that put runs and gaps on and beside every word edge.
  @Test(
    "searches are right for every capacity from 0 to 130 and every start",
    arguments: [
      "empty", "full", "even", "odd", "every third", "only word edges", "all but word edges", "the last",
      "all but the last",
    ])
  func exhaustiveSearches(pattern: String) {
    for capacity in 0...130 {
      let isMember: (Int) -> Bool =
        switch pattern {
        case "empty": { _ in false }
        case "full": { _ in true }
        case "even": { $0 % 2 == 0 }
        case "odd": { $0 % 2 == 1 }
        case "every third": { $0 % 3 == 0 }
        case "only word edges": { Self.edges.contains($0) }
        case "all but word edges": { !Self.edges.contains($0) }
        case "the last": { $0 == capacity - 1 }
        default: { $0 != capacity - 1 }
        }
      var bitmap = PageBitmap(capacity: capacity)
      let model = Model(capacity: capacity, members: Set((0..<capacity).filter(isMember)))
      for member in model.members { bitmap.insert(member) }
      let wrong = (0...capacity + 1).first { start in
        bitmap.nextMember(from: start) != model.nextMember(from: start)
          || bitmap.nextGap(from: start) != model.nextGap(from: start)
          || start < capacity && bitmap.contains(start) != isMember(start)
      }
      #expect(wrong == nil, "capacity \(capacity), \(pattern)")
      #expect(bitmap.count == model.members.count, "capacity \(capacity), \(pattern)")
    }
  }

  @Test(
    "every range can be inserted and removed, and is then the only run", arguments: [1, 63, 64, 65, 127, 128, 129, 130])
  func exhaustiveRanges(capacity: Int) {
    var bitmap = PageBitmap(capacity: capacity)
    var full = PageBitmap(capacity: capacity)
    full.insert(0..<capacity)
    for lower in 0...capacity {
      for upper in lower...capacity {
        bitmap.insert(lower..<upper)
        full.remove(lower..<upper)
        let run = lower == upper ? nil : lower..<upper
        let isRight =
          bitmap.count == upper - lower && full.count == capacity - (upper - lower)
          && bitmap.nextRun(from: 0, before: capacity) == run && bitmap.nextMember(from: upper) == nil
          && full.nextGap(from: 0) == run?.lowerBound
          && full.nextMember(from: lower) == (upper < capacity ? (run == nil ? lower : upper) : nil)
        #expect(isRight, "\(lower)..<\(upper) of \(capacity)")
        bitmap.remove(lower..<upper)
        full.insert(lower..<upper)
        guard bitmap.count == 0, full.count == capacity else {
          Issue.record("\(lower)..<\(upper) of \(capacity) was not undone")
          return
        }
      }
    }
  }

  @Test("runs are cut at every end and limit", arguments: [0, 1, 64, 65, 130])
  func runsAreCut(capacity: Int) {
    var bitmap = PageBitmap(capacity: capacity)
    var model = Model(capacity: capacity)
    for member in 0..<capacity where member % 67 != 40 {
      bitmap.insert(member)
      model.members.insert(member)
    }
    for start in 0...capacity {
      for end in Self.edges + [capacity + 70] {
        for limit in [0, 1, 2, 63, 64, 65, .max] {
          let run = bitmap.nextRun(from: start, before: end, limit: limit)
          let expected = model.nextRun(from: start, before: end, limit: limit)
          #expect(run == expected, "from \(start) before \(end) limit \(limit) of \(capacity)")
        }
      }
    }
  }

  @Test("a bitmap behaves as a set of integers")
  func behavesAsSet() throws {
    try checkProperty("a bitmap is a set", cases: 150) { choices in
      let capacity = choices.chance(oneIn: 2) ? choices.element(of: Self.edges) : choices.int(in: 0...400)
      var bitmap = PageBitmap(capacity: capacity)
      var model = Model(capacity: capacity)
      choices.note("capacity \(capacity)")
      try choices.rounds(upTo: 40) { choices in
        try Self.change(&bitmap, &model, &choices)
        try requireEqual(bitmap.count, model.members.count, "count")
        let (start, limit) = (choices.int(in: 0...capacity), choices.int(in: 0...capacity + 1))
        let end = choices.int(in: 0...capacity + 65)
        try requireEqual(bitmap.nextMember(from: start), model.nextMember(from: start), "next member from \(start)")
        try requireEqual(bitmap.nextGap(from: start), model.nextGap(from: start), "next gap from \(start)")
        try requireEqual(
          bitmap.nextRun(from: start, before: end, limit: limit), model.nextRun(from: start, before: end, limit: limit),
          "next run from \(start) before \(end), limit \(limit)")
        let word = (0..<64).reduce(UInt64(0)) { $0 | (model.members.contains(start + $1) ? 1 << UInt64($1) : 0) }
        try requireEqual(bitmap.word(from: start), word, "word from \(start)")
      }
      let members = (0..<capacity).filter(bitmap.contains)
      try requireEqual(members, model.members.sorted(), "members")
    }
  }

  static func change(_ bitmap: inout PageBitmap, _ model: inout Model, _ choices: inout Choices) throws {
    let range = choices.range(below: model.capacity)
    switch choices.int(below: 5) {
    case 0 where model.capacity > 0:
      let member = choices.int(below: model.capacity)
      choices.note("insert \(member)")
      try requireEqual(bitmap.insert(member), model.members.insert(member).inserted, "insert \(member)")
    case 1 where model.capacity > 0:
      let member = choices.int(below: model.capacity)
      choices.note("remove \(member)")
      try requireEqual(bitmap.remove(member), model.members.remove(member) != nil, "remove \(member)")
    case 2:
      choices.note("insert \(range)")
      bitmap.insert(range)
      model.members.formUnion(range)
    case 3:
      choices.note("remove \(range)")
      bitmap.remove(range)
      model.members.subtract(range)
    default:
      guard choices.chance(oneIn: 10) else { return }
      choices.note("remove all")
      bitmap.removeAll()
      model.members.removeAll()
    }
  }

  @Test("a sparse set that spans several leaves is searched as any other")
  func leafEdges() throws {
    let edges = [0, 1, 32_766, 32_767, 32_768, 32_769, 65_535, 65_536, 98_303, 98_304, 100_000, 130_999]
    try checkProperty("leaves and their model agree", cases: 4) { choices in
      var bitmap = PageBitmap(capacity: 131_000)
      var members: Set<Int> = []
      try choices.rounds(upTo: 6) { choices in
        let place = choices.element(of: edges)
        let range = place..<min(131_000, place + choices.element(of: [1, 2, 64, 32_768]))
        if choices.int(below: 3) > 0 {
          choices.note("insert \(range)")
          bitmap.insert(range)
          members.formUnion(range)
        } else {
          choices.note("remove \(range)")
          bitmap.remove(range)
          members.subtract(range)
        }
        try requireEqual(bitmap.count, members.count, "count")
        let sorted = members.sorted()
        for start in edges {
          let word = (0..<64).reduce(UInt64(0)) { $0 | (members.contains(start + $1) ? 1 << UInt64($1) : 0) }
          try requireEqual(bitmap.word(from: start), word, "word from \(start)")
          let next = sorted.first { $0 >= start }
          try requireEqual(bitmap.nextMember(from: start), next, "next member from \(start)")
          try requireEqual(bitmap.lastMember(before: start), sorted.last { $0 < start }, "last before \(start)")
          let gap = (start..<131_000).first { !members.contains($0) }
          try requireEqual(bitmap.nextGap(from: start), gap, "next gap from \(start)")
        }
      }
    }
  }
}
