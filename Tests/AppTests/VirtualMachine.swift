import Glibc
import Testing

@testable import Adapters
@testable import App

/// A real virtual machine of QEMU's: its memory is a memfd, its serial port is ours, and so is a monitor.
final class VirtualMachine {
  /// Emulation is slow, the machine loaded.
  static let limitSeconds = 120

  /// How QEMU reads and writes the disk.
  enum Disk: String {
    /// By read(2) and write(2), through the page cache.
    case buffered = "cache=writeback,aio=threads"
    /// Straight into the guest's memory, while the processors go on.
    case direct = "cache=none,aio=native"
  }

  let process: ChildProcess
  let monitor: MachineProtocol
  private let directory: String
  /// What else came from the serial port, for who looks into a failure.
  private var console: [String] = []

  /// Boots it, and waits until its guest program takes commands.
  init(_ guest: Guest, mebibytes: Int, disk: Disk = .buffered) throws {
    directory = try Directory.makeTemporary()
    var words = [
      "--pdeathsig", "KILL", Guest.qemu, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-m",
      "\(mebibytes)M", "-object", "memory-backend-memfd,id=memory,size=\(mebibytes)M,share=on", "-serial", "stdio",
      "-qmp", "unix:\(directory)/monitor,server=on,wait=off",
      // Each takes one client at a time.
      "-qmp", "unix:\(directory)/monitor-of-the-daemon,server=on,wait=off",
    ]
    if guest.isLinux {
      let image = "\(directory)/disk"
      let file = Descriptor(owning: open(image, O_RDWR | O_CREAT | O_CLOEXEC, 0o600))
      #expect(ftruncate(file.raw, 16 << 20) == 0)
      words += [
        "-device", "virtio-balloon-pci,id=balloon", "-drive",
        "file=\(image),format=raw,if=none,id=disk,\(disk.rawValue)", "-device", "virtio-blk-pci,drive=disk",
      ]
    }
    // (The process stays the same when setpriv becomes QEMU.)
    process = try ChildProcess(
      executable: "/usr/bin/setpriv", arguments: words + guest.arguments, keepsErrors: true)
    do {
      var first: [String] = []
      _ = try Self.answer(process, &first)
      console = first
      monitor = try MachineProtocol(path: "\(directory)/monitor", limitSeconds: Self.limitSeconds)
    } catch {
      process.end(signal: SIGKILL)
      Self.remove(directory)
      throw error
    }
  }

  deinit {
    process.end(signal: SIGKILL)
    Self.remove(directory)
  }

  private static func remove(_ directory: String) {
    for name in ["monitor", "monitor-of-the-daemon", "disk"] { unlink("\(directory)/\(name)") }
    rmdir(directory)
  }

  var pid: Int32 { process.handle.pid }
  var monitorForDaemon: String { "\(directory)/monitor-of-the-daemon" }

  // MARK: The guest program

  /// Gives its guest program a command, of guest.swift's `obey`, and waits for the answer.
  @discardableResult
  func ask(_ command: String) throws -> JSONValue {
    send(command)
    return try answer()
  }

  func send(_ command: String) { process.writeLine(command) }

  func answer() throws -> JSONValue { try Self.answer(process, &console) }

  private static func answer(_ process: ChildProcess, _ console: inout [String]) throws -> JSONValue {
    let deadline = SystemClock().nowNanoseconds + UInt64(limitSeconds) * 1_000_000_000
    while let line = process.readLine(deadlineNanoseconds: deadline) {
      if let answer = JSONValue.parse(Array(line.utf8)), answer["wrong"] != nil { return answer }
      console.append(line)
    }
    throw Complaint("the guest does not answer; it said:\n\(console.suffix(50).joined(separator: "\n"))")
  }

  /// Has it look at all its pages, wherever they are.
  ///
  /// - Returns: the wrong bytes that it has seen until now.
  func wrongBytes() throws -> Int? { try ask("check")["wrong"]?.int }

  // MARK: From outside

  /// Which memory its memfd takes.
  var heldBytes: Int {
    var status = stat()
    guard let number = descriptor("/memfd:memory-backend"), stat("/proc/\(pid)/fd/\(number)", &status) == 0 else {
      return 0
    }
    return Int(status.st_blocks) * 512
  }

  /// Whether it was made to have one, and still has.
  var hasUserfaultfd: Bool { descriptor("anon_inode:[userfaultfd]") != nil }

  private func descriptor(_ prefix: String) -> Int? {
    (0..<256).first { linkTarget("/proc/\(pid)/fd/\($0)")?.hasPrefix(prefix) == true }
  }

  /// Has the guest give its host all memory but so much, or take it again.
  func balloon(mebibytes: Int) throws {
    try monitor.ask("balloon", ["value": .int(mebibytes << 20)])
    try eventually("the balloon has its size", limitSeconds: Self.limitSeconds) {
      try monitor.ask("query-balloon")["actual"]?.int == mebibytes << 20
    }
  }
}
