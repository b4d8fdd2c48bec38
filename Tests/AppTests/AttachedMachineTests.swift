import Glibc
import Testing

@testable import Adapters
@testable import App

/// Virtual machines that know nothing of the daemon, attached to it: the guest never sees a wrong byte.
@Suite(.enabled(if: hasUserfaultfd && isRoot), .serialized)
struct AttachedMachineTests {
  private static let name = "vm"

  /// A daemon, a machine, and the commands between them.
  private struct Scene {
    let daemon: Daemon
    let machine: VirtualMachine
    let client: Client

    init(_ guest: Guest?, mebibytes: Int, disk: VirtualMachine.Disk = .buffered) throws {
      daemon = try Daemon()
      machine = try VirtualMachine(try #require(guest), mebibytes: mebibytes, disk: disk)
      client = try daemon.client()
    }

    func attach(_ options: [String] = []) throws {
      #expect(try run(["attach", "\(machine.pid)", "--name", name] + options) == 0)
      #expect(try daemon.state(name) == "Ready")
    }

    /// Afterwards the machine is as it was.
    func detach() throws {
      #expect(try run(["detach", name]) == 0)
      #expect(try client.list().isEmpty)
      #expect(!machine.hasUserfaultfd)
    }

    private func run(_ words: [String]) throws -> Int32? {
      try ChildProcess(
        executable: program, arguments: words + ["--socket", daemon.socketPath], keepsErrors: true
      ).end()
    }

    func request(_ op: String) -> [String: JSONValue] { ["op": .string(op), "tenant": .string(name), "wait": true] }

    @discardableResult
    func ask(_ op: String) throws -> JSONValue { try client.ask(request(op)) }

    /// Out to the disk, all but what the resting guest needs meanwhile.
    func takeOut() throws {
      let before = machine.heldBytes
      for op in ["enable", "trim", "out"] { try ask(op) }
      #expect(try daemon.state(name) == "Active")
      #expect(machine.heldBytes < before / 10, "of \(before) bytes it holds \(machine.heldBytes)")
    }

    /// Commands in some order, while the guest checks, writes, and uses its disk; if asked, the worker is killed in the
    /// middle of each.
    func moveAbout(rounds: Int, killing: Bool) throws {
      #expect(try machine.ask("run")["wrong"] == 0)
      let ops = ["enable", "out", "enable", "trim", "out", "disable"]
      for round in 0..<rounds {
        let op = ops[round % ops.count]
        let asking = try Asking(client, request(op))
        if killing {
          SystemClock().sleep(microseconds: UInt32(round * 10_000))
          kill(try daemon.worker, SIGKILL)
        }
        let reply = try #require(asking.answer(), "\(op) is not answered")
        #expect(reply["ok"]?.isTrue == true, "\(op): \(reply)")
        try expectRight(try machine.ask("report"), "after \(op)")
      }
      try expectRight(try machine.ask("rest"), "at rest")
    }

    func expectRight(_ answer: JSONValue, _ what: String) throws {
      #expect(answer["wrong"] == 0 && answer["disk_errors"] ?? 0 == 0, "\(what): \(answer)")
    }
  }

  @Test(.enabled(if: Guest.linux != nil))
  func `a Linux guest that is stopped by signals`() throws {
    let scene = try Scene(Guest.linux, mebibytes: 128)
    let machine = scene.machine
    _ = try machine.ask("resize 32")
    try scene.attach()
    try scene.takeOut()
    try scene.expectRight(try machine.ask("sample 2000"), "out of the file")
    try scene.expectRight(try machine.ask("disk 20"), "its disk")
    try scene.moveAbout(rounds: 6, killing: false)
    try scene.moveAbout(rounds: 6, killing: true)

    // It gives memory away that is out, and takes it again, as zeros.
    try scene.takeOut()
    _ = try machine.ask("resize 4")
    try machine.balloon(mebibytes: 96)
    try scene.ask("enable")
    try machine.balloon(mebibytes: 128)
    _ = try machine.ask("resize 32")
    try scene.ask("out")
    #expect(try machine.wrongBytes() == 0)

    #expect(try scene.ask("disable")["state"] == "Ready")
    try scene.detach()
    try scene.expectRight(try machine.ask("rewrite 1000"), "on its own")
    #expect(try machine.wrongBytes() == 0)
  }

  @Test(.enabled(if: Guest.linux != nil))
  func `a Linux guest that is stopped through its monitor, as its disk writes straight into its memory`() throws {
    let scene = try Scene(Guest.linux, mebibytes: 128, disk: .direct)
    let machine = scene.machine
    _ = try machine.ask("resize 32")
    try scene.attach()
    let refusal = try scene.client.exchange(scene.request("enable"))
    #expect(code(refusal) == "unsupported" && refusal["error"]?["message"]?.text?.contains("QMP") == true)
    try scene.detach()

    try scene.attach(["--qmp", machine.monitorForDaemon])
    try scene.takeOut()
    #expect(try machine.monitor.ask("query-status")["status"] == "running")
    try scene.expectRight(try machine.ask("disk 20"), "its disk")
    try scene.moveAbout(rounds: 6, killing: false)
    try scene.moveAbout(rounds: 6, killing: true)

    try machine.monitor.ask("stop")
    try scene.ask("enable")
    #expect(try machine.monitor.ask("query-status")["status"] == "paused", "who was paused stays so")
    try machine.monitor.ask("cont")
    // What detach brings back was never asked for.
    try scene.ask("out")
    try scene.detach()
    #expect(try machine.wrongBytes() == 0)
  }

  @Test(.enabled(if: Guest.bareMetal != nil))
  func `a guest on KVM`() throws {
    let scene = try Scene(Guest.bareMetal, mebibytes: 64)
    _ = try scene.machine.ask("resize 32")
    try scene.attach()
    try scene.takeOut()
    try scene.expectRight(try scene.machine.ask("sample 500"), "out of the file")
    try scene.moveAbout(rounds: 6, killing: false)
    try scene.moveAbout(rounds: 6, killing: true)
    try scene.ask("disable")
    try scene.detach()
    #expect(try scene.machine.wrongBytes() == 0)
  }
}
