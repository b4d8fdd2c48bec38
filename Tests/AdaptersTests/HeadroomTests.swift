import Domain
import Glibc
import Testing

@testable import Adapters

/// What /proc and /sys/fs/cgroup say, from a directory that plays them.
@Suite struct HeadroomTests {
  private final class PlayedFiles {
    let path: String
    var groups: ControlGroups { ControlGroups(files: "\(path)/cgroup", processes: "\(path)/proc") }

    init(_ files: [String: String]) throws {
      path = try Directory.makeTemporary()
      for (name, text) in files { try set(name, text) }
    }

    deinit {
      do { _ = try ChildProcess(executable: "/bin/rm", arguments: ["-r", path], keepsErrors: true).end() } catch {}
    }

    func set(_ name: String, _ text: String) throws {
      let directory = "\(path)/\(name)".split(separator: "/").dropLast().map { "/\($0)" }
      for end in 1...directory.count { mkdir(directory[..<end].joined(), 0o755) }
      let file = Descriptor(owning: open("\(path)/\(name)", O_WRONLY | O_CREAT | O_TRUNC, 0o644))
      try Array(text.utf8).withUnsafeBytes { try writeAll(file, $0, at: 0, operation: .inspectProcess) }
    }

    func room(_ process: String = "7", mayBeSlowed: Bool = true) -> Int? {
      groups.room(of: process, mayBeSlowed: mayBeSlowed) { $0 / 100 }
    }
  }

  @Test("v2: the tightest group on the way up counts, clean cache half")
  func version2() throws {
    let files = try PlayedFiles([
      "proc/7/cgroup": "0::/slice/vm\n", "cgroup/slice/vm/memory.max": "max\n",
      "cgroup/slice/vm/memory.current": "900\n",
      "cgroup/slice/memory.max": "10000\n", "cgroup/slice/memory.current": "4000\n",
    ])
    #expect(files.room() == 10_000 - 4000 - 100)
    try files.set("cgroup/slice/vm/memory.max", "1000\n")
    #expect(files.room() == 1000 - 900 - 10)
    try files.set(
      "cgroup/slice/vm/memory.stat", "anon 1\ninactive_file 500\nactive_file 200\nfile_dirty 60\nfile_writeback 40\n")
    #expect(files.room() == 1000 - 900 - 10 + 300)
    try files.set("cgroup/slice/vm/memory.high", "950\n")
    #expect(files.room() == 1000 - 900 - 10 + 300)
    #expect(files.room(mayBeSlowed: false) == 950 - 900 - 9 + 300)
    try files.set("cgroup/slice/vm/memory.current", "2000\n")
    #expect(try #require(files.room()) < 0, "over its limit")
  }

  @Test("v1: its own files, and their totals")
  func version1() throws {
    let files = try PlayedFiles([
      "proc/7/cgroup": "5:cpu:/\n4:memory:/vm\n0::/\n", "cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
      "cgroup/memory/memory.usage_in_bytes": "5\n", "cgroup/memory/vm/memory.limit_in_bytes": "2000\n",
      "cgroup/memory/vm/memory.usage_in_bytes": "500\n",
      "cgroup/memory/vm/memory.stat": "inactive_file 7\ntotal_inactive_file 100\ntotal_dirty 20\n",
    ])
    #expect(files.room() == 2000 - 500 - 20 + 40)
  }

  @Test("what can't be read is no limit", arguments: ["", "0::/../elsewhere\n", "nonsense\n", "4:memory\n", "0::/\n"])
  func unknown(_ text: String) throws {
    let files = try PlayedFiles(["proc/7/cgroup": text])
    #expect(files.room() == nil)
    #expect(files.room("8") == nil)
  }

  @Test("a gauge hands out what it saw, and no more before it looks again")
  func gauge() {
    let looks = Counter()
    let gauge = MemoryGauge {
      looks.count += 1
      return 100
    }
    #expect(gauge.take(60) && gauge.take(40))
    #expect(looks.count == 1)
    #expect(gauge.take(50), "looked again")
    #expect(looks.count == 2)
    #expect(!gauge.take(101) && !gauge.take(90, reserve: 20) && gauge.take(80, reserve: 20))
    #expect(MemoryGauge { nil }.take(1 << 60))
  }

  private final class Counter: @unchecked Sendable {  // used by one thread
    var count = 0
  }

  @Test("this machine has some memory, and says what has not")
  func machine() throws {
    let files = try PlayedFiles(["meminfo": "MemTotal:       1024000 kB\nMemAvailable:      40000 kB\n"])
    let headroom = TenantHeadroom(
      shared: DaemonHeadroom(groups: files.groups, memoryInformation: "\(files.path)/meminfo"),
      processes: ProcessList([]), geometry: Machinery.geometry)
    let pages = (1 << 20) / Machinery.pageBytes
    #expect(headroom.shortage(of: pages, for: .staging) == nil)
    #expect(headroom.shortage(of: pages, for: .returning(fromFile: false)) == nil)
    #expect(headroom.shortage(of: pages, for: .returning(fromFile: true)) == .machine)
    #expect(headroom.shortage(of: 40 * pages, for: .staging) == .machine)
    let real = TenantHeadroom(
      shared: DaemonHeadroom(), processes: ProcessList([]), geometry: Machinery.geometry)
    #expect(real.shortage(of: 1 << 40, for: .staging) == .machine)
  }

  @Test("pages count once, until they are given back, and never beyond the limit")
  func accounts() {
    let limit = SharedPageLimit(pages: 10)
    var (one, other): (PageAccount?, PageAccount) =
      (PageAccount(capacity: 20, limit: limit), PageAccount(capacity: 20, limit: limit))
    #expect(one?.add(0..<6) == true && one?.add(2..<8) == true && !other.add(0..<3) && other.add(0..<2))
    #expect(one?.add(0..<8) == true, "they count already")
    #expect(one?.reserve(1) == false)
    one?.remove(0..<4)
    #expect(one?.reserve(4) == true && !other.add(5..<6))
    #expect(one?.add(0..<3) == true && !other.add(5..<6), "what was reserved is used, and one page is left of it")
    #expect(one?.reserve(0) == true && other.add(5..<6))
    other.remove(5..<20)
    one = nil
    #expect(other.reserve(8) && !other.reserve(9) && other.add(2..<10))
    other.removeAll()
    #expect(other.add(0..<10))
    #expect(PageAccount(capacity: 1 << 40, limit: nil).add(0..<20), "nothing is counted without a limit")
  }
}
