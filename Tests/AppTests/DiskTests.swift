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

    func resize(_ bytes: Int) { #expect(mount("swap-monitor-test", path, "tmpfs", UInt(MS_REMOUNT), "size=\(bytes)") == 0) }
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

  @Test func `a swap directory that can't be used is named, with exit code 1`() throws {
    let child = try ChildProcess(
      executable: program, arguments: ["serve", "--socket", "/tmp/swap-monitor-never", "--swap-dir", "/proc/nowhere"],
      keepsErrors: false)
    #expect(child.end() == 1)
  }
}
