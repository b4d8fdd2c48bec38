import Glibc

/// The program inside the virtual machines of the tests: memory with content that can be told right from wrong, and a disk.
/// It takes commands at its console, a line each, and answers with a line of JSON.
struct Guest {
  static let pageBytes = 4096
  static let mostPages = 1 << 20
  /// Pages between two looks at the console.
  static let pagesAtOnce = 64

  let memory: UnsafeMutableRawPointer
  /// How often each page has been written.
  var generations: [UInt8] = []
  var random = UInt64(1)
  var isRunning = false

  var checkedPages = 0
  var wrongBytes = 0
  var longestStallMicroseconds = UInt64(0)
  var lastStepMicroseconds = UInt64(0)

  /// nil without a disk.
  let disk: (file: Int32, pages: Int)?
  var diskTransfers = 0
  var diskErrors = 0

  init() {
    memory = mmap(
      nil, Self.mostPages * Self.pageBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    // The device reads and writes the pages themselves.
    let file = open("/dev/vda", O_RDWR | O_DIRECT)
    disk = file < 0 ? nil : (file, lseek(file, 0, SEEK_END) / Self.pageBytes)
  }

  // MARK: Pages

  func words(of page: Int) -> UnsafeMutableBufferPointer<UInt64> {
    let start = memory + page * Self.pageBytes
    let count = Self.pageBytes / MemoryLayout<UInt64>.size
    return UnsafeMutableBufferPointer(start: start.assumingMemoryBound(to: UInt64.self), count: count)
  }

  static func mix(_ value: UInt64) -> UInt64 {
    var word = (value ^ value >> 30) &* 0xBF58_476D_1CE4_E5B9
    word = (word ^ word >> 27) &* 0x94D0_49BB_1331_11EB
    return word ^ word >> 31
  }

  /// The first word of a page, and what each is more than the one before. Some pages are all zeros, as in any machine.
  func pattern(_ page: Int) -> (first: UInt64, step: UInt64) {
    let generation = Int(generations[page])
    if (page + generation) % 8 == 0 { return (0, 0) }
    return (Self.mix(UInt64(page) << 8 | UInt64(generation)), 0x9E37_79B9_7F4A_7C15)
  }

  func write(_ page: Int) {
    var (word, step) = pattern(page)
    for index in words(of: page).indices {
      words(of: page)[index] = word
      word &+= step
    }
  }

  mutating func rewrite(_ page: Int) {
    generations[page] &+= 1
    write(page)
  }

  mutating func check(_ page: Int) {
    var (word, step) = pattern(page)
    for found in words(of: page) {
      var difference = found ^ word
      while difference != 0 {
        if difference & 0xFF != 0 { wrongBytes += 1 }
        difference >>= 8
      }
      word &+= step
    }
    checkedPages += 1
    noteStep()
  }

  mutating func noteStep() {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    let now = UInt64(time.tv_sec) * 1_000_000 + UInt64(time.tv_nsec) / 1000
    if lastStepMicroseconds != 0 {
      longestStallMicroseconds = max(longestStallMicroseconds, now - lastStepMicroseconds)
    }
    lastStepMicroseconds = now
  }

  mutating func randomNumber(below limit: Int) -> Int {
    random &+= 0x9E37_79B9_7F4A_7C15
    return Int(Self.mix(random) % UInt64(max(limit, 1)))
  }

  // MARK: Disk

  /// Some pages go to the disk and come back from there into the same memory, which is spoilt meanwhile.
  mutating func transfer() {
    guard let disk, !generations.isEmpty else { return }
    let count = min(1 + randomNumber(below: 32), generations.count, disk.pages)
    let first = randomNumber(below: generations.count - count + 1)
    let offset = randomNumber(below: disk.pages - count + 1) * Self.pageBytes
    let (start, bytes) = (memory + first * Self.pageBytes, count * Self.pageBytes)
    if pwrite(disk.file, start, bytes, offset) != bytes { diskErrors += 1 }
    memset(start, 0xEE, bytes)
    if pread(disk.file, start, bytes, offset) != bytes { diskErrors += 1 }
    for page in first..<(first + count) { check(page) }
    diskTransfers += 1
  }

  // MARK: Commands

  /// Takes that much memory, and fills what is new; or gives back what is too much.
  mutating func resize(_ mebibytes: Int) {
    let (before, pages) = (generations.count, min(mebibytes << 20 / Self.pageBytes, Self.mostPages))
    if pages < before {
      madvise(memory + pages * Self.pageBytes, (before - pages) * Self.pageBytes, MADV_DONTNEED)
      generations.removeLast(before - pages)
    } else {
      generations += [UInt8](repeating: 0, count: pages - before)
      for page in before..<pages { write(page) }
    }
  }

  /// What goes on all the time between `run` and `rest`.
  mutating func work() {
    for _ in 0..<Self.pagesAtOnce where !generations.isEmpty {
      let page = randomNumber(below: generations.count)
      check(page)
      if page % 4 == 0 { rewrite(page) }
    }
    transfer()
  }

  mutating func report() {
    let fields: KeyValuePairs = [
      "pages": generations.count, "checked": checkedPages, "wrong": wrongBytes, "disk_transfers": diskTransfers,
      "disk_errors": diskErrors, "longest_stall_us": Int(longestStallMicroseconds),
    ]
    print("{" + fields.map { "\"\($0.key)\":\($0.value)" }.joined(separator: ",") + "}")
    (checkedPages, diskTransfers, longestStallMicroseconds) = (0, 0, 0)
  }

  mutating func obey(_ line: String) {
    let parts = line.split(separator: " ")
    let number = parts.count > 1 ? Int(parts[1]) ?? 0 : 0
    // Who rests does not stall.
    if isRunning { noteStep() } else { lastStepMicroseconds = 0 }
    switch parts.first {
    case "resize": resize(number)
    case "rewrite": for _ in 0..<number { rewrite(randomNumber(below: generations.count)) }
    case "check": for page in generations.indices { check(page) }
    case "sample": for _ in 0..<number { check(randomNumber(below: generations.count)) }
    // A wrong byte, for the test of the test.
    case "spoil" where number < generations.count: words(of: number)[7] ^= 0x0100
    case "disk": for _ in 0..<number { transfer() }
    case "run": isRunning = true
    case "rest": isRunning = false
    default: break
    }
    report()
  }

  mutating func serve() {
    report()
    while true {
      var console = pollfd(fd: STDIN_FILENO, events: Int16(POLLIN), revents: 0)
      // The wait leaves some of the processor to others.
      if poll(&console, 1, isRunning ? 1 : -1) > 0 {
        guard let line = readLine() else { return }
        obey(line)
      } else if isRunning {
        work()
      }
    }
  }
}

setvbuf(stdout, nil, _IOLBF, 0)
var guest = Guest()
guest.serve()
