internal import Synchronization

/// Increments counters of its own all over the memory, and knows what each of them has to be.
package final class TortureWriter: @unchecked Sendable {  // used by one thread at a time
  /// A fault of the tenant itself, which torture has to find: else it could find none of the daemon's either.
  package enum Canary: String {
    case counter, constant, zeros, hang
  }

  private let memory: TortureMemory
  private let board: TortureBoard
  private let number: Int
  private let area: Range<Int>
  private let shared: [UInt32]
  /// What this writer's counters are, by page.
  private let counters: UnsafeMutablePointer<UInt64>
  private var random: RandomSequence
  private var canary: Canary?
  /// Writes now and then, and notes how long each write takes while memory moves.
  private let isPaced: Bool
  private let clock = SystemClock()
  private var rounds = 0
  private var hotStart = 0

  private static let hotPages: UInt64 = 64
  private static let roundIncrements = 512
  /// Rounds until other pages are hot.
  private static let hotRounds = 128
  private static let canaryRound = 100
  private static let longestRemoval: UInt64 = 16
  private static let paceMicroseconds: UInt32 = 100

  package init(_ number: Int, memory: TortureMemory, board: TortureBoard, canary: Canary?, isPaced: Bool = false) {
    self.number = number
    self.memory = memory
    self.board = board
    self.canary = canary
    self.isPaced = isPaced
    area = memory.layout.area(of: number)
    shared = memory.layout.shared
    random = RandomSequence(seed: SplitMix.mix(memory.layout.seed &+ UInt64(number)))
    counters = .allocate(capacity: memory.layout.pageCount)
    counters.initialize(repeating: 0, count: memory.layout.pageCount)
  }

  deinit { counters.deallocate() }

  /// Increments until the board says that it is over.
  package func run() throws(SystemError) {
    begin()
    var begin = clock.nowNanoseconds
    while !board.isOver {
      if canary == .hang, rounds == Self.canaryRound { while !board.isOver { clock.sleep(microseconds: 10_000) } }
      round()
      if rounds % 8 == 0, !area.isEmpty { try remove() }
      let end = clock.nowNanoseconds
      finishPiece(begin: begin, end: end)
      begin = end
    }
    board[.rests, number] = 1
  }

  /// Most go to few pages, so that there are many of them; one goes to any page.
  private func round() {
    if rounds % Self.hotRounds == 0 { hotStart = Int(random.next() % UInt64(shared.count)) }
    for _ in 1..<Self.roundIncrements {
      let page = Int(shared[(hotStart + Int(random.next() % Self.hotPages)) % shared.count])
      if isPaced { incrementPaced(page) } else { increment(page) }
    }
    increment(Int(shared[Int(random.next() % UInt64(shared.count))]))
    rounds += 1
    board[.increments, number] += UInt64(Self.roundIncrements)
    if rounds == Self.canaryRound { sing() }
  }

  @inline(__always)
  private func increment(_ page: Int) {
    checkConstant(page)
    let word = memory.word(page, TortureLayout.firstCounter + number)
    let found = word.pointee.load(ordering: .relaxed)
    if found != counters[page] { lose(page, expected: counters[page], found: found) }
    counters[page] = found &+ 1
    word.pointee.store(found &+ 1, ordering: .relaxed)
  }

  /// Whoever is stopped is so in its pause, as a rule. So what counts is how long after its time the write is done.
  private func incrementPaced(_ page: Int) {
    let (begin, moves) = (clock.nowNanoseconds, board.moves)
    clock.sleep(microseconds: Self.paceMicroseconds)
    increment(page)
    guard moves % 2 == 1 || board.moves != moves else { return }
    let time = clock.nowNanoseconds - begin
    let pace = UInt64(Self.paceMicroseconds) * 1000
    board.note(stall: max(time, pace) - pace, of: time, writer: number)
  }

  @inline(__always)
  private func checkConstant(_ page: Int) {
    let constant = memory.layout.constant(of: page)
    let first = memory.word(page, 0).pointee.load(ordering: .relaxed)
    if first != constant { lose(page, expected: constant, found: first) }
    let last = memory.word(page, memory.wordsPerPage - 1).pointee.load(ordering: .relaxed)
    if last != constant { lose(page, expected: constant, found: last) }
  }

  /// Pages of its own: some get new content, some lose it all.
  private func remove() throws(SystemError) {
    for _ in 0..<8 {
      let page = area.lowerBound + Int(random.next() % UInt64(area.count))
      let word = memory.word(page, TortureLayout.firstCounter + number)
      let found = word.pointee.load(ordering: .relaxed)
      if found != counters[page] { lose(page, expected: counters[page], found: found) }
      counters[page] = random.next() | 1
      word.pointee.store(counters[page], ordering: .relaxed)
    }
    let start = area.lowerBound + Int(random.next() % UInt64(area.count))
    let pages = start..<min(start + 1 + Int(random.next() % Self.longestRemoval), area.upperBound)
    if canary == .zeros, rounds > Self.canaryRound { canary = nil } else { try memory.remove(pages) }
    for page in pages { counters[page] = 0 }
    let page = pages.lowerBound + Int(random.next() % UInt64(pages.count))
    for index in 0..<memory.wordsPerPage { check(page, index, 0) }
    board[.removals, number] += UInt64(pages.count)
  }

  /// Compares every counter of its own, and its share of what this process has to see in the other pages.
  package func verify() {
    begin()
    for page in shared.map({ Int($0) }) {
      begunPiece()
      checkConstant(page)
      check(page, TortureLayout.firstCounter + number, counters[page])
    }
    for page in area {
      begunPiece()
      for index in 0..<memory.wordsPerPage {
        check(page, index, index == TortureLayout.firstCounter + number ? counters[page] : 0)
      }
    }
    let share = number % TortureLayout.writersPerProcess
    for page in memory.layout.cold where page % TortureLayout.writersPerProcess == share {
      begunPiece()
      let constant = memory.layout.constant(of: page)
      for index in 0..<memory.wordsPerPage { check(page, index, constant) }
    }
    board[.rests, number] = 1
  }

  private func begunPiece() {
    board[.checkedPages, number] += 1
    if board[.checkedPages, number] % 64 == 0 { board[.lastBegin, number] = clock.nowNanoseconds }
  }

  private func begin() {
    board[.lastBegin, number] = 0
    board[.rests, number] = 0
  }

  private func finishPiece(begin: UInt64, end: UInt64) {
    board[.lastBegin, number] = begin
    if !isPaced, end - begin > board[.longest, number] { board[.longest, number] = end - begin }
  }

  @inline(__always)
  private func check(_ page: Int, _ index: Int, _ expected: UInt64) {
    let found = memory.word(page, index).pointee.load(ordering: .relaxed)
    if found != expected { lose(page, expected: expected, found: found) }
  }

  @inline(never)
  private func lose(_ page: Int, expected: UInt64, found: UInt64) {
    if board[.lost, number] == 0 {
      board[.lostPage, number] = UInt64(page)
      board[.lostExpected, number] = expected
      board[.lostFound, number] = found
    }
    board[.lost, number] += 1
  }

  private func sing() {
    let page = Int(shared[hotStart])
    switch canary {
    case .counter: memory.word(page, TortureLayout.firstCounter + number).pointee.store(1 << 40, ordering: .relaxed)
    case .constant: memory.word(page, 0).pointee.store(1 << 40, ordering: .relaxed)
    case .zeros, .hang, nil: break
    }
  }
}
