import Domain
import Glibc
import Testing

@testable import Adapters

@Suite struct MachineTests {
  @Test("the machine's page sizes are the kernel's")
  func geometry() throws {
    let geometry = try #require(Machine.pageGeometry())
    #expect(geometry.pageBytes == Int(getpagesize()))
    #expect(geometry.hugePagePages > 1)
  }

  @Test("small files are read whole, up to a limit; what is not there is nil")
  func files() throws {
    let directory = try TemporaryDirectory()
    let path = "\(directory.path)/file"
    let bytes = (0..<10_000).map { UInt8(truncatingIfNeeded: $0) }
    let raw = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0o600)
    #expect(write(raw, bytes, bytes.count) == bytes.count)
    close(raw)
    #expect(readBytes(path) == bytes)
    #expect(try #require(readBytes(path, limit: 4096)).count == 4096)
    #expect(readBytes("\(directory.path)/none") == nil)
    #expect(readBytes(directory.path) == nil)
    #expect(" a \t b\nc".trimmingLine == "a \t b")
  }

  @Test("directories are made with those above them, and a second time")
  func directories() throws {
    let directory = try TemporaryDirectory()
    let path = "\(directory.path)/one/two/three"
    #expect(try Directory.make(path, mode: 0o755))
    #expect(try !Directory.make(path, mode: 0o755), "it was there")
    #expect(list("\(directory.path)/one/two") == ["three"])
    for inner in [path, "\(directory.path)/one/two", "\(directory.path)/one"] { Directory.remove(inner) }
    #expect(directory.names.isEmpty)
    #expect(throws: SystemError.self) { try Directory.make("/proc/one/two", mode: 0o755) }
  }

  @Test("errors have the kernel's words; calls go on after EINTR")
  func errors() throws {
    #expect(SystemError("doing it", errorNumber: ENOENT).description == "doing it: No such file or directory")
    #expect(errorText(99_999).contains("99999"))
    var answers: [(Int, Int32)] = [(-1, EINTR), (-1, EINTR), (7, 0)]
    func call() -> Int {
      let (result, number) = answers.removeFirst()
      errno = number
      return result
    }
    #expect(retryingInterrupts(call) == (7, 0))
    answers = [(-1, EINTR), (-1, EIO), (1, 0)]
    #expect(throws: SystemError("x", errorNumber: EIO)) { try checked("x", call) }
    #expect(answers.count == 1)
  }

  @Test("random words differ, and the clock does not go back")
  func randomAndTime() {
    #expect(Set(Machine.randomWords(100)).count == 100)
    let clock = SystemClock()
    let times = (0..<1000).map { _ in clock.nowNanoseconds }
    #expect(times == times.sorted())
  }

  @Test("a thread has its name, runs once, and can be joined")
  func threads() throws {
    let names = BoundedQueue<String>(capacity: 2)
    let thread = try Thread(name: "a-name-that-is-too-long") {
      _ = names.offer(readText("/proc/thread-self/comm")?.trimmingLine ?? "")
    }
    thread.join()
    names.close()
    #expect(names.take() == "a-name-that-is-")
    #expect(names.take() == nil)
  }

  @Test("a child's lines and exit code come through, and its end")
  func childProcess() throws {
    let child = try ChildProcess(executable: "/bin/cat", arguments: [], keepsErrors: true)
    child.writeLine("one")
    child.writeLine("two words")
    #expect(child.readLine() == "one")
    #expect(child.readLine() == "two words")
    #expect(child.handle.isAlive)
    #expect(child.end() == 0)
    #expect(!child.handle.isAlive)
    // A worker of the test runner blocks signals, and a child inherits that: this one is started without.
    let killed = try Background { () -> Int32? in
      var none = sigset_t()
      sigemptyset(&none)
      pthread_sigmask(SIG_SETMASK, &none, nil)
      do throws(SystemError) {
        let child = try ChildProcess(executable: "/bin/sleep", arguments: ["5"], keepsErrors: false)
        return child.end(signal: ChildProcess.terminate)
      } catch { return -1 }
    }
    #expect(killed.wait() == .some(nil))
    let failing = try ChildProcess(executable: "/bin/cat", arguments: ["/nowhere"], keepsErrors: false)
    #expect(failing.readLine() == nil)
    #expect(failing.end() == 1)
    #expect(throws: SystemError.self) { try ChildProcess(executable: "/nowhere", arguments: [], keepsErrors: false) }
  }

  @Test("pattern memory knows what it holds, and what was changed behind its back")
  func patternMemory() throws {
    let memory = try PatternMemory(pageCount: 200, geometry: Machinery.geometry, seed: 7)
    memory.fill(0..<200)
    #expect(memory.mismatches(in: 0..<200) == 0)
    #expect(Set((0..<200).map { memory.kind(of: $0) }).count == 3)
    for page in [3, 3, 100] { memory.increment(page) }
    #expect(memory.mismatches(in: 0..<200) == 0)
    put([0xAA], atByte: 150 * Machinery.pageBytes + 4095, in: memory.file)
    put([0xAA], atByte: 20 * Machinery.pageBytes, in: memory.file)
    #expect(memory.mismatches(in: 0..<200) == 2)
    #expect(memory.mismatches(in: 21..<150) == 0)
    // It is what the daemon takes.
    _ = try GuestFileInspection.inspect(memory.file, number: 0, geometry: Machinery.geometry)
  }

  private func put(_ bytes: [UInt8], atByte offset: Int, in file: Descriptor) {
    #expect(pwrite(file.raw, bytes, bytes.count, offset) == bytes.count)
  }
}
