import Glibc
import Testing

@testable import Adapters
@testable import App
@testable import Domain

/// Disks that are full, or refuse. Mounting small filesystems takes root.
@Suite(.enabled(if: hasUserfaultfd && isRoot), .serialized)
struct DiskTests {
  /// A tmpfs of its own.
  private final class SmallDisk {
    let path: String

    init(bytes: Int) throws {
      path = try Directory.makeTemporary()
      guard mount("swap-monitor-test", path, "tmpfs", 0, "size=\(bytes)") == 0 else {
        throw Complaint("mounting a tmpfs: \(errorText(errno))")
      }
    }

    deinit {
      umount2(path, Int32(MNT_DETACH))
      rmdir(path)
    }

    func resize(_ bytes: Int) {
      #expect(mount("swap-monitor-test", path, "tmpfs", UInt(MS_REMOUNT), "size=\(bytes)") == 0)
    }
  }

  private func metric(_ reply: JSONValue, _ name: String) -> Int? { reply["metrics"]?[name]?.int }

  @Test func `a full disk leaves pages in staging, and out works again when there is room`() throws {
    let disk = try SmallDisk(bytes: 64 << 12)
    let daemon = try Daemon(swapDirectory: disk.path)
    let own = try OwnTenant(daemon, pages: 256)
    _ = try own.ask("enable")
    let refusal = try own.client.exchange(["op": "out", "wait": true])
    #expect(code(refusal) == "no-space", "\(refusal)")
    var status = try daemon.status(own.name)
    #expect(status["state"] == "Failed" && status["failure"]?["code"] == "no-space")
    #expect((metric(status, "staging_pages") ?? 0) + (metric(status, "swap_pages") ?? 0) == 256)
    #expect(own.memory.mismatches(in: 0..<32) == 0, "everything is readable")
    #expect(code(try own.client.exchange(["op": "trim"])) == "wrong-state")
    disk.resize(16 << 20)
    status = try own.ask("out")
    #expect(status["state"] == "Active" && status["failure"] == nil && metric(status, "staging_pages") == 0)
    #expect(own.memory.mismatches(in: 0..<256) == 0)
  }

  @Test func `after a full disk, enable and disable work`() throws {
    let disk = try SmallDisk(bytes: 64 << 12)
    let daemon = try Daemon(swapDirectory: disk.path)
    let own = try OwnTenant(daemon, pages: 256)
    for _ in 0..<2 {
      _ = try own.ask("enable")
      #expect(code(try own.client.exchange(["op": "out", "wait": true])) == "no-space")
      #expect(try own.ask("enable")["state"] == "Pending")
      #expect(code(try own.client.exchange(["op": "out", "wait": true])) == "no-space")
      #expect(try daemon.state(own.name) == "Failed")
      let status = try own.ask("disable")
      #expect(status["state"] == "Ready" && status["failure"] == nil)
      #expect(own.memory.mismatches(in: 0..<256) == 0)
    }
  }

  @Test func `out ends before the floor of free disk space is broken`() throws {
    let daemon = try Daemon(["--keep-free", "1000T"])
    let own = try OwnTenant(daemon)
    _ = try own.ask("enable")
    let refusal = try own.client.exchange(["op": "out", "wait": true])
    #expect(code(refusal) == "no-space" && refusal["error"]?["message"]?.text?.contains("--keep-free") == true)
    #expect(try own.ask("disable")["state"] == "Ready")
    #expect(own.memory.mismatches(in: 0..<own.memory.pageCount) == 0)
  }

  /// Of the daemon's swap files, which are unnamed and found by its descriptors, the one with content.
  private func filledSwapFile(of daemon: Daemon) throws -> Descriptor {
    for number in 3..<256 {
      let path = "/proc/\(daemon.process.handle.pid)/fd/\(number)"
      guard let target = linkTarget(path), target.hasPrefix(daemon.swapDirectory), target.hasSuffix("(deleted)")
      else { continue }
      let file = Descriptor(owning: open(path, O_RDWR))
      if lseek(file.raw, 0, SEEK_END) > 0 { return file }
    }
    throw Complaint("the daemon has no swap file with content")
  }

  @Test func `a page that reads back wrong is SIGBUS at its reader, never other bytes, and disable says so`() throws {
    let daemon = try Daemon()
    let neighbour = try OwnTenant(daemon)
    let tenant = try TenantProcess(daemon, pages: 1024)
    let client = try daemon.client()
    let name = JSONValue.string(TenantProcess.name)
    for op in ["enable", "trim", "out"] { _ = try client.ask(["op": .string(op), "tenant": name, "wait": true]) }
    let file = try filledSwapFile(of: daemon)
    var byte: UInt8 = 0
    #expect(pread(file.raw, &byte, 1, 5 * 4096 + 77) == 1)
    byte ^= 0x10
    #expect(pwrite(file.raw, &byte, 1, 5 * 4096 + 77) == 1)
    let refusal = try client.exchange(["op": "disable", "tenant": name, "wait": true])
    #expect(code(refusal) == "io-error", "\(refusal)")
    let status = try daemon.status(TenantProcess.name)
    #expect(status["state"] == "Failed" && metric(status, "unreadable_pages") == 1 && metric(status, "swap_pages") == 0)
    // Repaired, it is read again and comes back: nothing was given up.
    byte ^= 0x10
    #expect(pwrite(file.raw, &byte, 1, 5 * 4096 + 77) == 1)
    #expect(try client.ask(["op": "disable", "tenant": name, "wait": true])["state"] == "Ready")
    #expect(try tenant.mismatches() == 0)

    for op in ["enable", "trim", "out"] { _ = try client.ask(["op": .string(op), "tenant": name, "wait": true]) }
    let newFile = try filledSwapFile(of: daemon)
    #expect(pread(newFile.raw, &byte, 1, 5 * 4096 + 77) == 1)
    byte ^= 0x01
    #expect(pwrite(newFile.raw, &byte, 1, 5 * 4096 + 77) == 1)
    tenant.process.writeLine("verify")
    #expect(throws: Complaint.self, "its reader is killed") { try tenant.answer("mismatches") }
    #expect(tenant.process.end() == nil, "by a signal")
    try eventually("the dead tenant is forgotten") { try daemon.client().list().count == 1 }
    _ = try neighbour.ask("enable")
    _ = try neighbour.ask("disable")
    #expect(neighbour.memory.mismatches(in: 0..<neighbour.memory.pageCount) == 0)
  }

  /// Which pages can't be read, as the kernel tells who asks it to: where a load gets SIGBUS, write(2) answers EFAULT.
  private func unreadablePages(of memory: PatternMemory) throws -> [Int] {
    let sink = Descriptor(owning: memfd_create("sink", 0))
    let start = try #require(UnsafeRawPointer(bitPattern: UInt(memory.address)))
    return (0..<memory.pageCount).filter { pwrite(sink.raw, start + $0 << 12, 1 << 12, 0) == -1 && errno == EFAULT }
  }

  @Test func `a flipped byte in the swap file costs one page, which the log names, and no other`() throws {
    let daemon = try Daemon()
    let own = try OwnTenant(daemon)
    for op in ["enable", "out"] { _ = try own.ask(op) }
    let file = try filledSwapFile(of: daemon)
    var byte: UInt8 = 0
    #expect(pread(file.raw, &byte, 1, 3 * 4096 + 1000) == 1)
    byte ^= 0x80
    #expect(pwrite(file.raw, &byte, 1, 3 * 4096 + 1000) == 1)
    let bad = try unreadablePages(of: own.memory)
    #expect(bad.count == 1)
    let page = try #require(bad.first)
    #expect(own.memory.mismatches(in: 0..<page) == 0)
    #expect(own.memory.mismatches(in: (page + 1)..<own.memory.pageCount) == 0)
    #expect(metric(try daemon.status(own.name), "unreadable_pages") == 1)
    // The next worker poisons it again.
    kill(try daemon.worker, SIGKILL)
    #expect(metric(try daemon.status(own.name), "unreadable_pages") == 1)
    #expect(try unreadablePages(of: own.memory) == bad)
  }

  @Test func `what the disk can't give back at all costs those pages, and no other`() throws {
    let daemon = try Daemon()
    let own = try OwnTenant(daemon)
    for op in ["enable", "out"] { _ = try own.ask(op) }
    let file = try filledSwapFile(of: daemon)
    // Reads past the end fail like those of a broken disk (EIO of read(2) is the same to the daemon).
    let slots = lseek(file.raw, 0, SEEK_END) >> 12
    #expect(ftruncate(file.raw, (slots - 7) << 12) == 0)
    let bad = try unreadablePages(of: own.memory)
    #expect(bad.count == 7)
    #expect((0..<own.memory.pageCount).allSatisfy { bad.contains($0) || own.memory.mismatches(in: $0..<($0 + 1)) == 0 })
    #expect(metric(try daemon.status(own.name), "unreadable_pages") == 7)
    #expect(code(try own.client.exchange(["op": "disable", "wait": true])) == "io-error")
    #expect(try unreadablePages(of: own.memory) == bad, "also after disable")
  }

  @Test(.enabled(if: FailingDisk.isToBeHad))
  func `a filesystem that goes read-only leaves pages in staging, and everything readable`() throws {
    let disk = try FailingDisk(bytes: 32 << 20, pretendedBytes: 32 << 20)
    let daemon = try Daemon(swapDirectory: disk.path)
    let own = try OwnTenant(daemon)
    for op in ["enable", "out"] { _ = try own.ask(op) }
    #expect(own.memory.mismatches(in: 0..<64) == 0)
    disk.goReadOnly()
    #expect(try own.ask("enable")["state"] == "Pending")
    let refusal = try own.client.exchange(["op": "out", "wait": true])
    #expect(code(refusal) == "io-error", "\(refusal)")
    let status = try daemon.status(own.name)
    #expect(status["state"] == "Failed" && status["failure"]?["code"] == "io-error")
    #expect((metric(status, "staging_pages") ?? 0) > 0 && metric(status, "unreadable_pages") == 0)
    #expect(own.memory.mismatches(in: 0..<32) == 0)
    #expect(try own.ask("enable")["state"] == "Pending")
    #expect(try own.ask("disable")["state"] == "Ready")
    #expect(own.memory.mismatches(in: 0..<own.memory.pageCount) == 0)
  }

  @Test(.enabled(if: hasUserfaultfd)) func `a swap directory that is made is told of`() throws {
    let directory = try Directory.makeTemporary()
    let made = "\(directory)/one/swap"
    defer { for path in [made, "\(directory)/one", directory] { rmdir(path) } }
    let daemon = try merged([program, "serve", "--end-with-parent", "--socket", "\(directory)/s", "--swap-dir", made])
    var lines: [String] = []
    while let line = daemon.readLine() {
      lines.append(line)
      if line.contains("serving at") { break }
    }
    #expect(daemon.end(signal: SIGTERM) == 0)
    #expect(lines.contains { $0.hasSuffix("info: made the swap directory \(made)") }, "\(lines)")
  }

  @Test func `a swap directory that can't be used is named, with exit code 1`() throws {
    let child = try ChildProcess(
      executable: program, arguments: ["serve", "--socket", "/tmp/swap-monitor-never", "--swap-dir", "/proc/nowhere"],
      keepsErrors: false)
    #expect(child.end() == 1)
  }
}
