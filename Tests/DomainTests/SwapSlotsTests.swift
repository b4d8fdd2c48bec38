import Domain
import TestSupport
import Testing

@Suite struct SwapSlotsTests {
  /// What must be true of a swap file's slots, kept the plain way.
  struct Model {
    let capacity: Int
    var taken: Set<Int> = []
    var freedWhilePinned: Set<Int> = []
    var owners: [Int: Int] = [:]
    var pins: [Range<Int>] = []
    /// Free, and still holding something.
    var wasted: Set<Int> = []
    var punching: Range<Int>?

    func isPinned(_ slot: Int) -> Bool { pins.contains { $0.contains(slot) } }

    mutating func free(_ slot: Int) {
      if isPinned(slot) { freedWhilePinned.insert(slot) } else { release(slot) }
    }

    private mutating func release(_ slot: Int) {
      taken.remove(slot)
      wasted.insert(slot)
    }

    mutating func unpin(at index: Int) {
      pins.remove(at: index)
      for slot in freedWhilePinned where !isPinned(slot) {
        freedWhilePinned.remove(slot)
        release(slot)
      }
    }

    /// Slots that a page still holds.
    var held: [Int] { taken.subtracting(freedWhilePinned).subtracting(punching ?? 0..<0).sorted() }
  }

  static func raw(_ slots: SlotRange) -> Range<Int> { slots.lowerBound.rawValue..<slots.upperBound.rawValue }
  static func slots(_ range: Range<Int>) -> SlotRange { SwapSlot(range.lowerBound)..<SwapSlot(range.upperBound) }

  @Test("slots behave as a plain set with owners and pins")
  func behavesAsModel() throws {
    try checkProperty("slots and their model agree", cases: 300) { choices in
      let capacity = choices.element(of: [0, 1, 2, 5, 63, 64, 65, 130, 300])
      var slots = SwapSlots(capacity: capacity)
      var model = Model(capacity: capacity)
      choices.note("capacity \(capacity)")
      try choices.rounds(upTo: 60) { choices in
        try Self.step(&slots, &model, &choices)
        try requireEqual(slots.usedCount, model.taken.count, "used")
        try requireEqual(slots.punchableCount, model.wasted.count, "wasted")
        try requireEqual(slots.pinnedRuns, model.pins.count, "pinned runs")
        try Self.checkUsedRuns(slots, model, &choices)
      }
      for (slot, page) in model.owners where model.taken.contains(slot) {
        try requireEqual(slots.owner(of: SwapSlot(slot)), PageIndex(page), "owner of slot \(slot)")
      }
      try require(slots.length <= capacity, "the file is longer than its capacity")
      try require(slots.length > model.taken.max() ?? -1, "a taken slot lies behind the file's end")
    }
  }

  static func step(_ slots: inout SwapSlots, _ model: inout Model, _ choices: inout Choices) throws {
    switch choices.int(below: 7) {
    case 0, 1:
      let wanted = choices.int(in: 1...(choices.chance(oneIn: 3) ? 200 : 8))
      guard let run = slots.allocateRun(upTo: wanted).map(raw) else {
        choices.note("allocate \(wanted): none")
        return try requireEqual(model.taken.count, model.capacity, "nothing is handed out, so taken slots")
      }
      choices.note("allocate \(wanted): \(run)")
      try require((1...wanted).contains(run.count), "a run of \(run.count) for \(wanted)")
      try require(run.lowerBound >= 0 && run.upperBound <= model.capacity, "a run beyond the capacity: \(run)")
      try require(model.taken.isDisjoint(with: run), "\(run) was handed out, and holds taken or pinned slots")
      for slot in run {
        model.taken.insert(slot)
        model.wasted.remove(slot)
        model.owners[slot] = choices.int(below: 1000)
        slots.setOwner(of: SwapSlot(slot), to: PageIndex(model.owners[slot] ?? 0))
      }
    case 2, 3:
      guard !model.held.isEmpty else { return }
      let start = choices.int(below: model.held.count)
      for slot in model.held[start..<min(model.held.count, start + choices.int(in: 1...5))] {
        choices.note("free \(slot)")
        slots.free(SwapSlot(slot))
        model.free(slot)
      }
    case 4:
      // Only what somebody holds is read; a run of it, as swap-in does.
      guard !model.held.isEmpty else { return }
      let first = choices.element(of: model.held)
      var end = first + 1
      while model.held.contains(end), end - first < 4 { end += 1 }
      choices.note("pin \(first..<end)")
      slots.pin(Self.slots(first..<end))
      model.pins.append(first..<end)
    case 5: try punch(&slots, &model, &choices)
    default:
      guard !model.pins.isEmpty else { return }
      let index = choices.int(below: model.pins.count)
      choices.note("unpin \(model.pins[index])")
      slots.unpin(Self.slots(model.pins[index]))
      model.unpin(at: index)
    }
  }

  /// Begins a punch of what is wasted, or ends the one under way.
  static func punch(_ slots: inout SwapSlots, _ model: inout Model, _ choices: inout Choices) throws {
    if let run = model.punching {
      let isDone = choices.int(below: 2) == 0
      choices.note("punched \(run): \(isDone)")
      slots.endPunch(Self.slots(run), isDone: isDone)
      model.taken.subtract(run)
      if !isDone { model.wasted.formUnion(run) }
      model.punching = nil
    } else if let run = slots.beginPunch(limit: choices.int(in: 1...9)).map(raw) {
      choices.note("punch \(run)")
      try require(model.wasted.isSuperset(of: run), "\(run) is punched, and holds something")
      model.wasted.subtract(run)
      model.taken.formUnion(run)
      model.punching = run
    } else {
      try require(model.wasted.isEmpty, "nothing is punched, and \(model.wasted) are wasted")
    }
  }

  static func checkUsedRuns(_ slots: SwapSlots, _ model: Model, _ choices: inout Choices) throws {
    let limit = choices.int(in: 1...40)
    var walked: [Int] = []
    var position = SwapSlot(0)
    while let run = slots.nextUsedRun(from: position, limit: limit) {
      try require(run.count <= limit && !run.isEmpty, "a run of \(run.count), limit \(limit)")
      walked += raw(run)
      position = run.upperBound
    }
    try requireEqual(walked, model.taken.sorted(), "taken slots, run by run")
  }

  @Test("a fresh file is filled in order, without a gap")
  func fillsInOrder() throws {
    try checkProperty("a fresh file is filled in order", cases: 50) { choices in
      let capacity = choices.int(in: 1...500)
      var slots = SwapSlots(capacity: capacity)
      var next = 0
      while next < capacity {
        let wanted = choices.int(in: 1...100)
        let expected = next..<min(next + wanted, capacity)
        try requireEqual(slots.allocateRun(upTo: wanted).map(Self.raw), expected, "slots for \(wanted)")
        next = expected.upperBound
      }
      try requireEqual(slots.allocateRun(upTo: 1), nil, "slots of a full file")
    }
  }

  @Test("every slot can be taken, however the file is fragmented")
  func fullCapacityIsReached() throws {
    try checkProperty("the capacity is reached", cases: 100) { choices in
      let capacity = choices.int(in: 1...400)
      var slots = SwapSlots(capacity: capacity)
      while slots.allocateRun(upTo: 64) != nil {}
      // More gaps than one allocation looks at, so that the last resort is needed too.
      let stride = choices.int(in: 1...5)
      var used = capacity
      for slot in 0..<capacity where slot % stride == 0 && !choices.chance(oneIn: 4) {
        slots.free(SwapSlot(slot))
        used -= 1
      }
      choices.note("capacity \(capacity), \(capacity - used) freed, every \(stride)")
      while used < capacity {
        guard let run = slots.allocateRun(upTo: choices.int(in: 1...64)) else { break }
        used += run.count
      }
      try requireEqual(used, capacity, "taken in the end")
      try requireEqual(slots.usedCount, capacity, "counted in the end")
    }
  }

  @Test("a file that was emptied is filled from its beginning again, and does not grow")
  func emptiedFileIsReused() throws {
    try checkProperty("length stays at the peak", cases: 50) { choices in
      var slots = SwapSlots(capacity: 2000)
      var peak = 0
      try choices.rounds(upTo: 12) { choices in
        var taken: [SwapSlot] = []
        let wanted = choices.int(in: 1...600)
        while taken.count < wanted {
          let run = try unwrap(slots.allocateRun(upTo: min(64, wanted - taken.count)), "a run")
          taken += run
        }
        peak = max(peak, wanted)
        choices.note("\(wanted) taken and freed; the length is \(slots.length)")
        // The file's free end may be shorter than the run wanted; then a run reaches past it.
        try require(slots.length <= peak + 64, "length \(slots.length), peak \(peak)")
        for slot in taken { slots.free(slot) }
      }
    }
  }

  @Test("single pages that come and go keep the file as long as the peak")
  func singleSlotsAreCompact() throws {
    try checkProperty("churn of single slots does not grow the file", cases: 50) { choices in
      var slots = SwapSlots(capacity: 1000)
      var taken: [SwapSlot] = []
      var peak = 0
      try choices.rounds(upTo: 300) { choices in
        if taken.isEmpty || choices.int(below: 5) < 3 {
          taken.append(try unwrap(slots.allocateRun(upTo: 1), "a slot").lowerBound)
          peak = max(peak, taken.count)
        } else {
          slots.free(taken.remove(at: choices.int(below: taken.count)))
        }
        try requireEqual(slots.length, peak, "the file's length")
      }
    }
  }

  @Test("a gap that was too short for one allocation is used by a later one that fits")
  func shortGapsAreNotForgotten() {
    var slots = SwapSlots(capacity: 100)
    _ = slots.allocateRun(upTo: 20)
    for slot in 0..<10 { slots.free(SwapSlot(slot)) }
    #expect(slots.allocateRun(upTo: 32).map(Self.raw) == 20..<52)
    #expect(slots.allocateRun(upTo: 5).map(Self.raw) == 0..<5)
  }

  @Test("a run that reaches past the file's end begins where the free end does")
  func longFreeEndIsUsed() {
    var slots = SwapSlots(capacity: 2000)
    _ = slots.allocateRun(upTo: 500)
    for slot in 0..<500 { slots.free(SwapSlot(slot)) }
    #expect(slots.allocateRun(upTo: 512).map(Self.raw) == 0..<512)
  }

  @Test("a slot that is freed while it is read becomes free at the last unpin")
  func freedWhilePinned() {
    var slots = SwapSlots(capacity: 1)
    _ = slots.allocateRun(upTo: 1)
    let run = SwapSlot(0)..<SwapSlot(1)
    slots.pin(run)
    slots.pin(run)
    slots.free(SwapSlot(0))
    #expect(slots.allocateRun(upTo: 1) == nil)
    slots.unpin(run)
    #expect(slots.allocateRun(upTo: 1) == nil, "one read is still under way")
    slots.unpin(run)
    #expect(slots.usedCount == 0)
    #expect(slots.allocateRun(upTo: 1) == run)
  }

  @Test("every slot of a long file keeps its owner, however the file grew")
  func manyOwners() {
    let capacity = 50_000
    var slots = SwapSlots(capacity: capacity)
    for wanted in [1, 8_191, 1, 16_383, capacity] {
      guard let run = slots.allocateRun(upTo: wanted) else { break }
      for slot in run { slots.setOwner(of: slot, to: PageIndex(capacity - slot.rawValue)) }
    }
    #expect(slots.length == capacity)
    #expect((0..<capacity).allSatisfy { slots.owner(of: SwapSlot($0)) == PageIndex(capacity - $0) })
  }

  @Test("adopted slots are taken, owned, and never handed out")
  func adoption() throws {
    try checkProperty("adopted slots stay", cases: 100) { choices in
      let capacity = 200
      var slots = SwapSlots(capacity: capacity)
      var owners: [Int: Int] = [:]
      choices.rounds(upTo: 40) { choices in
        let (slot, page) = (choices.int(below: capacity), choices.int(below: 1000))
        choices.note("adopt slot \(slot) for page \(page)")
        slots.adopt(SwapSlot(slot), owner: PageIndex(page))
        owners[slot] = page
      }
      try requireEqual(slots.usedCount, owners.count, "used")
      try requireEqual(slots.length, (owners.keys.max() ?? -1) + 1, "length")
      var free = capacity - owners.count
      while let run = slots.allocateRun(upTo: choices.int(in: 1...50)) {
        try require(!run.contains { owners[$0.rawValue] != nil }, "\(Self.raw(run)) holds an adopted slot")
        free -= run.count
      }
      try requireEqual(free, 0, "slots that were not handed out")
      for (slot, page) in owners {
        try requireEqual(slots.owner(of: SwapSlot(slot)), PageIndex(page), "owner of slot \(slot)")
      }
    }
  }

  @Test("what an earlier life has left is handed out like a free slot, but for what is being punched")
  func leftover() throws {
    try checkProperty("leftover slots are free", cases: 100) { choices in
      let capacity = choices.int(in: 1...200)
      let length = choices.int(in: 0...capacity)
      let end = choices.int(in: length...capacity)
      var slots = SwapSlots(capacity: capacity)
      slots.adoptLeftover(length: length, punching: end > length ? Self.slots(length..<end) : nil)
      try requireEqual(slots.punchableCount, length, "wasted")
      var taken: Set<Int> = []
      while let run = slots.allocateRun(upTo: choices.int(in: 1...20)).map(Self.raw) { taken.formUnion(run) }
      try requireEqual(taken, Set(0..<capacity).subtracting(length..<end), "what is handed out")
      if end > length { slots.endPunch(Self.slots(length..<end), isDone: true) }
      while let run = slots.allocateRun(upTo: 7).map(Self.raw) { taken.formUnion(run) }
      try requireEqual(taken.count, capacity, "everything in the end")
    }
  }

  @Test("with a limit every slot below it can be taken, and none behind it")
  func limit() throws {
    try checkProperty("the limit holds", cases: 100) { choices in
      let capacity = choices.int(in: 1...130)
      let limit = choices.int(in: 1...130)
      var slots = SwapSlots(capacity: capacity, limit: limit)
      var taken: [SwapSlot] = []
      try choices.rounds(upTo: 20) { choices in
        if let run = slots.allocateRun(upTo: choices.int(in: 1...40)) { taken += run }
        let count = choices.int(in: 0...taken.count)
        for _ in 0..<count { slots.free(taken.remove(at: choices.int(in: 0...(taken.count - 1)))) }
        try require(slots.length <= min(capacity, limit), "the file has \(slots.length) slots")
        try requireEqual(slots.areUsedUp, taken.count == min(capacity, limit), "used up")
      }
      while let run = slots.allocateRun(upTo: 7) { taken += run }
      try requireEqual(Set(taken).count, min(capacity, limit), "slots")
    }
  }
}
