import Glibc

@testable import Adapters
@testable import App

/// What a virtual machine of the tests boots: made once, of Tests/Guest.
struct Guest {
  /// QEMU's words for it.
  let arguments: [String]
  /// Whether it has drivers for a disk and a balloon.
  let isLinux: Bool

  static let qemu = "/usr/bin/qemu-system-x86_64"

  /// Debian's kernel, busybox and guest.swift, on an emulated processor; nil, and said loudly, where something is missing.
  static let linux: Guest? = {
    let kernel = "\(sources)/../../.build/guest-kernel"
    guard
      has(
        "virtual machines",
        [
          (qemu, "the package qemu-system-x86"), ("/bin/busybox", "the package busybox-static"),
          ("\(kernel)/vmlinuz", "a kernel: Tests/Guest/fetch-kernel .build/guest-kernel"),
        ]), let directory = made("make-initramfs '\(kernel)'")
    else { return nil }
    return Guest(
      arguments: [
        "-machine", "q35,accel=tcg,memory-backend=memory", "-kernel", "\(kernel)/vmlinuz", "-initrd",
        "\(directory)/initramfs", "-append", "console=ttyS0 quiet panic=-1",
      ], isLinux: true)
  }()

  /// bare-metal.c, on a real processor; nil, and said loudly, where something is missing.
  static let bareMetal: Guest? = {
    guard
      has("virtual machines on KVM", [(qemu, "the package qemu-system-x86"), ("/dev/kvm", "/dev/kvm")]),
      let directory = made("make-bare-metal")
    else { return nil }
    // This kind of machine has next to no firmware.
    return Guest(
      arguments: [
        "-machine", "microvm,accel=kvm,memory-backend=memory", "-cpu", "qemu64,-sse3", "-kernel",
        "\(directory)/bare-metal",
      ], isLinux: false)
  }()

  private static let sources = #filePath.split(separator: "/").dropLast(2).reduce("") { "\($0)/\($1)" } + "/Guest"

  private static func has(_ what: String, _ needs: [(path: String, name: String)]) -> Bool {
    // (A device may have a name here, and nothing behind it.)
    var missing = needs.filter { Descriptor(owning: open($0.path, O_RDONLY | O_CLOEXEC)).raw < 0 }.map(\.name)
    #if !arch(x86_64)
      missing.append("an x86-64 processor")
    #endif
    if !missing.isEmpty { skipped("\(what) need \(missing.joined(separator: ", "))") }
    return missing.isEmpty
  }

  private static func skipped(_ why: String) { Console.writeError("\n*** SKIPPED: \(why) ***\n") }

  /// Has one of the scripts make something, beside the test bundle.
  ///
  /// - Returns: the directory where it is.
  private static func made(_ command: String) -> String? {
    let directory = "\(buildDirectory)/guest"
    if system("mkdir -p '\(directory)' && '\(sources)'/\(command) '\(directory)'") == 0 { return directory }
    skipped("\(command) fails")
    return nil
  }
}
