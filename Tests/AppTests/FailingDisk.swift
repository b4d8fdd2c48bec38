import Glibc
import Testing

@testable import Adapters
@testable import App

/// An ext4 in a sparse file on a tmpfs that is too small for it: what is written when that is full fails.
final class FailingDisk {
  let path: String
  private let backing: String
  private var device = ""
  static let makeFilesystem = "/usr/sbin/mkfs.ext4"
  static let setUpLoop = "/usr/sbin/losetup"

  static let isToBeHad: Bool = {
    let isThere =
      isRoot && access(makeFilesystem, X_OK) == 0 && access(setUpLoop, X_OK) == 0
      && access("/dev/loop-control", F_OK) == 0
    if !isThere {
      Console.writeError("\n*** SKIPPED: a failing disk needs root, loop devices, losetup and mkfs.ext4 ***\n")
    }
    return isThere
  }()

  init(bytes: Int, pretendedBytes: Int) throws {
    (path, backing) = (try Directory.makeTemporary(), try Directory.makeTemporary())
    guard mount("swap-monitor-test", backing, "tmpfs", 0, "size=\(bytes)") == 0 else {
      throw Complaint("mounting a tmpfs: \(errorText(errno))")
    }
    let image = "\(backing)/image"
    let file = Descriptor(owning: open(image, O_RDWR | O_CREAT | O_CLOEXEC, 0o600))
    #expect(ftruncate(file.raw, pretendedBytes) == 0)
    // Without a journal, and with all tables written now, what fails later is data.
    let maker = try ChildProcess(
      executable: Self.makeFilesystem,
      arguments: ["-q", "-F", "-O", "^has_journal", "-E", "nodiscard,lazy_itable_init=0", "-N", "64", image],
      keepsErrors: true)
    #expect(maker.end() == 0)
    let loop = try ChildProcess(
      executable: Self.setUpLoop, arguments: ["--find", "--show", image], keepsErrors: true)
    device = loop.readLine() ?? ""
    #expect(loop.end() == 0)
    // The loop driver calls a write done that its file had room for in part only (a short write, lo_complete_rq of
    // drivers/block/loop.c). So no request is larger than a page.
    let queue = Descriptor(
      owning: open("/sys/block/\(device.dropFirst("/dev/".count))/queue/max_sectors_kb", O_WRONLY))
    guard write(queue.raw, "4", 1) == 1 else { throw Complaint("setting max_sectors_kb: \(errorText(errno))") }
    guard mount(device, path, "ext4", 0, "errors=continue") == 0 else {
      throw Complaint("mounting \(device): \(errorText(errno))")
    }
  }

  /// As an error in its metadata would have it (ext4's mount option "abort").
  func goReadOnly() { #expect(mount(device, path, "ext4", UInt(MS_REMOUNT), "abort") == 0) }

  deinit {
    umount2(path, Int32(MNT_DETACH))
    if !device.isEmpty {
      do {
        let loop = try ChildProcess(executable: Self.setUpLoop, arguments: ["-d", device], keepsErrors: true)
        loop.end()
      } catch { Console.writeError("\(device) is left behind: \(error)\n") }
    }
    umount2(backing, Int32(MNT_DETACH))
    rmdir(path)
    rmdir(backing)
  }
}
