package import Domain
internal import Glibc

/// Judging the memfds that clients send.
package enum GuestFileInspection {
  package struct Refusal: Error, Equatable {
    /// For the client: names the descriptor, what it is, and what would be right.
    package let message: String
  }

  /// - Parameter number: how the client counts its memfds, for messages.
  package static func inspect(_ file: Descriptor, number: Int, geometry: PageGeometry) throws(Refusal) -> GuestFile {
    try inspect(file, name: "memfd \(number)", geometry: geometry)
  }

  static func inspect(_ file: Descriptor, name: String, geometry: PageGeometry) throws(Refusal) -> GuestFile {
    func refuse(_ why: String) -> Refusal { Refusal(message: "\(name) \(why)") }
    var status = stat()
    guard fstat(file.raw, &status) == 0 else { throw refuse("can't be examined: \(errorText(errno))") }
    guard status.st_mode & S_IFMT == S_IFREG else { throw refuse("is not a memfd; send what memfd_create(2) gave") }
    let flags = fcntl(file.raw, F_GETFL)
    guard flags & O_ACCMODE == O_RDWR, flags & O_PATH == 0 else { throw refuse("is not open for reading and writing") }
    let seals = fcntl(file.raw, F_GET_SEALS)
    guard seals >= 0 else { throw refuse("is not a memfd; send what memfd_create(2) gave") }
    guard seals & F_SEAL_SHRINK != 0 else {
      throw refuse("is not sealed against shrinking, which would kill its readers: add F_SEAL_SHRINK")
    }
    guard seals & (F_SEAL_WRITE | futureWriteSeal) == 0 else {
      throw refuse("is sealed against writing (F_SEAL_WRITE or F_SEAL_FUTURE_WRITE), so its pages can't be taken out")
    }
    var system = statvfs()
    guard fstatvfs(file.raw, &system) == 0 else { throw refuse("can't be examined: \(errorText(errno))") }
    // (st_blksize would not do: with transparent huge pages a plain memfd shows 2 MiB.)
    guard Int(system.f_bsize) == geometry.pageBytes else {
      throw refuse(
        "has huge pages of \(system.f_bsize) bytes; only the base page size, \(geometry.pageBytes), is supported (no "
          + "MFD_HUGETLB)")
    }
    return GuestFile(
      identity: FileIdentity(device: UInt64(status.st_dev), inode: UInt64(status.st_ino)), size: UInt64(status.st_size))
  }

  /// F_SEAL_FUTURE_WRITE of <linux/fcntl.h>.
  private static let futureWriteSeal: Int32 = 0x0010
}
