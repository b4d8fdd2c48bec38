import Glibc
import Testing

@testable import Adapters
@testable import App

/// The virtual machines themselves, without the daemon: that they do what other tests rely on, and find what is wrong.
@Suite(.serialized)
struct VirtualMachineTests {
  @Test(.enabled(if: Guest.linux != nil))
  func `a Linux guest fills memory, checks it, uses its disk and its balloon, stops and goes on`() throws {
    let machine = try VirtualMachine(try #require(Guest.linux), mebibytes: 512, disk: .direct)
    #expect(try machine.ask("resize 128")["pages"] == 32_768)
    #expect(try machine.ask("rewrite 1000")["wrong"] == 0)
    var answer = try machine.ask("check")
    #expect(answer["checked"] == 32_768 && answer["wrong"] == 0, "\(answer)")
    _ = try machine.ask("spoil 5")
    #expect(try machine.wrongBytes() == 1)
    _ = try machine.ask("spoil 5")  // undone
    answer = try machine.ask("disk 20")
    #expect(answer["disk_transfers"] == 20 && answer["disk_errors"] == 0 && answer["wrong"] == 1, "\(answer)")

    _ = try machine.ask("run")
    try machine.monitor.ask("stop")
    #expect(try machine.monitor.ask("query-status")["status"] == "paused")
    machine.send("report")
    let soon = SystemClock().nowNanoseconds + 300_000_000
    #expect(machine.process.readLine(deadlineNanoseconds: soon) == nil, "it is stopped")
    try machine.monitor.ask("cont")
    #expect(try machine.answer()["wrong"] == 1)
    try eventually("it goes on checking", limitSeconds: VirtualMachine.limitSeconds) {
      try machine.ask("report")["checked"]?.int ?? 0 > 0
    }

    let before = machine.heldBytes
    #expect(before > 128 << 20)
    try machine.balloon(mebibytes: 256)
    #expect(machine.heldBytes < 256 << 20)
    try machine.balloon(mebibytes: 512)
    answer = try machine.ask("rest")
    #expect(answer["disk_errors"] == 0 && answer["longest_stall_us"]?.int ?? 0 > 0, "\(answer)")
    // Memory that was away in the balloon.
    _ = try machine.ask("resize 350")
    #expect(try machine.wrongBytes() == 1)
  }

  @Test(.enabled(if: Guest.bareMetal != nil))
  func `a guest on KVM fills memory, checks it, stops and goes on`() throws {
    let machine = try VirtualMachine(try #require(Guest.bareMetal), mebibytes: 64)
    #expect(try machine.ask("resize 32")["pages"] == 8192)
    #expect(try machine.ask("rewrite 100")["wrong"] == 0)
    let answer = try machine.ask("check")
    #expect(answer["checked"] == 8192 && answer["wrong"] == 0, "\(answer)")
    _ = try machine.ask("spoil 5")
    #expect(try machine.wrongBytes() == 1)
    _ = try machine.ask("run")
    try machine.monitor.ask("stop")
    #expect(try machine.monitor.ask("query-status")["status"] == "paused")
    try machine.monitor.ask("cont")
    #expect(machine.heldBytes > 32 << 20)
    #expect(try machine.ask("rest")["pages"] == 8192)
  }
}
