internal import Glibc

/// A userfaultfd of a process that was never made for it: the process's own main thread makes it, by a system call that is put
/// into its mouth, and keeps its copy. So a second holder keeps faults waiting, should the whole daemon die.
package struct BorrowedUserfaultfd: Sendable {
  package let descriptor: Descriptor
  /// The copy that is open in the process.
  package let number: Int32
  /// How long the thread was held.
  package let heldNanoseconds: UInt64

  /// - Throws: what stands in the way, for people; the process runs on as before.
  ///
  /// - Parameter handsDevice: to a process that may make none itself.
  package static func make(in process: ProcessHandle, handsDevice: Bool) throws(AttachFailure) -> BorrowedUserfaultfd {
    do throws(SystemError) {
      var tracee = try hold(process)
      var number = try tracee.call(Linux.SYS_userfaultfd, UInt64(O_CLOEXEC | O_NONBLOCK))
      // Not for everybody (vm.unprivileged_userfaultfd); with the device, whose opening is what is judged, it is.
      if number == -Int(EPERM), handsDevice { number = try makeByDevice(process, &tracee) }
      guard number >= 0 else {
        throw SystemError("making a userfaultfd in process \(process.pid)", errorNumber: Int32(-number))
      }
      do throws(SystemError) {
        let descriptor = try copy(Int32(number), from: process)
        return BorrowedUserfaultfd(
          descriptor: descriptor, number: Int32(number), heldNanoseconds: tracee.heldNanoseconds)
      } catch {
        _ = try tracee.call(Linux.SYS_close, UInt64(number))
        throw error
      }
    } catch { throw AttachFailure(error, process) }
  }

  /// Closes the process's copy, if it is that still.
  package static func close(_ number: Int32, in process: ProcessHandle, sameAs ours: Descriptor) throws(AttachFailure) {
    do throws(SystemError) {
      var tracee = try hold(process)
      // It may have closed it by itself, and have opened something else.
      let theirs: Descriptor
      do throws(SystemError) { theirs = try copy(number, from: process) } catch {
        if error.errorNumber == EBADF { return }
        throw error
      }
      if Userfaultfd.isSame(theirs, ours) { _ = try tracee.call(Linux.SYS_close, UInt64(number)) }
    } catch { throw AttachFailure(error, process) }
  }

  /// What processes are called that do this (Machine.nameProcess).
  package static let tracerName = "swap-assistant"
  private static let traceTries = 100

  /// One that an earlier worker has asked may be just at it.
  private static func hold(_ process: ProcessHandle) throws(SystemError) -> Tracee {
    for _ in 0..<traceTries {
      do throws(SystemError) { return try Tracee(process.pid) } catch {
        guard error.errorNumber == EPERM, AttachFailure.tracer(of: process.pid)?.name == tracerName else { throw error }
      }
      usleep(tracePauseMicroseconds)
    }
    return try Tracee(process.pid)
  }

  private static let tracePauseMicroseconds: UInt32 = 20_000

  /// Hands the process our /dev/userfaultfd through a pair of sockets that it makes, and has it make its userfaultfd of that.
  private static func makeByDevice(_ process: ProcessHandle, _ tracee: inout Tracee) throws(SystemError) -> Int {
    guard let device = attempt({ try Descriptor(opening: "/dev/userfaultfd", O_RDWR) }) else { return -Int(EPERM) }
    // A page of its own: what lies below a stack may be in use.
    let place = try tracee.call(
      Linux.SYS_mmap, 0, pageBytes, UInt64(PROT_READ | PROT_WRITE), UInt64(MAP_PRIVATE | MAP_ANONYMOUS), .max, 0)
    guard place >= 0 else { return place }
    do throws(SystemError) {
      let result = try make(of: device, process, &tracee, at: UInt64(place))
      _ = try tracee.call(Linux.SYS_munmap, UInt64(place), pageBytes)
      return result
    } catch {
      _ = try tracee.call(Linux.SYS_munmap, UInt64(place), pageBytes)
      throw error
    }
  }

  private static let pageBytes: UInt64 = 4096

  private static func make(
    of device: Descriptor, _ process: ProcessHandle, _ tracee: inout Tracee, at place: UInt64
  ) throws(SystemError) -> Int {
    let kind = UInt64(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue)
    let made = try tracee.call(Linux.SYS_socketpair, UInt64(AF_UNIX), kind, 0, place)
    guard made == 0 else { return made }
    let ends = try tracee.read(8, at: place).numbers(Int32.self)
    var opened = ends
    var result = -Int(EMFILE)
    do throws(SystemError) {
      let socket = SequencedSocket(adopting: try copy(ends[0], from: process))
      if try socket.send([0], descriptors: [device]), let theirs = try receive(from: ends[1], &tracee, at: place) {
        opened.append(theirs)
        result = try tracee.call(
          Linux.SYS_ioctl, UInt64(theirs), UInt64(UFFD.USERFAULTFD_IOC_NEW), UInt64(O_CLOEXEC | O_NONBLOCK))
      }
    } catch {
      for number in opened { _ = try tracee.call(Linux.SYS_close, UInt64(number)) }
      throw error
    }
    for number in opened { _ = try tracee.call(Linux.SYS_close, UInt64(number)) }
    return result
  }

  /// recvmsg(2) in the process, with everything in its page: `msghdr` (56 bytes), `iovec`, a byte, control data.
  private static func receive(from socket: Int32, _ tracee: inout Tracee, at place: UInt64) throws(SystemError)
    -> Int32?
  {
    let (vector, byte, control, controlBytes) = (place + 64, place + 80, place + 96, UInt64(64))
    var header = [UInt64](repeating: 0, count: 20)  // to the end of the control data
    (header[2], header[3], header[4], header[5]) = (vector, 1, control, controlBytes)
    (header[8], header[9]) = (byte, 1)
    try tracee.write(header.flatMap(\.bytes), at: place)
    let flags = UInt64(Int32(MSG_CMSG_CLOEXEC) | Int32(MSG_DONTWAIT))
    guard try tracee.call(Linux.SYS_recvmsg, UInt64(socket), place, flags) == 1 else { return nil }
    // The header of a control message is 16 bytes: a length, a level and a type. Without a free number none comes.
    let came = try tracee.read(8, at: place + 40).number(Int32.self, at: 0)
    let answer = try tracee.read(24, at: control).numbers(Int32.self)
    return came >= 20 && answer[0] >= 20 && answer[2] == SOL_SOCKET && answer[3] == 0x01 ? answer[4] : nil
  }

  private static func copy(_ number: Int32, from process: ProcessHandle) throws(SystemError) -> Descriptor {
    let raw = try checked("taking a copy of descriptor \(number) of process \(process.pid)") {
      c_syscall(Linux.SYS_pidfd_getfd, Int(process.descriptor.raw), Int(number), 0, 0, 0)
    }
    return Descriptor(owning: Int32(raw))
  }
}

/// Why a process can't be attached to. It runs on as before.
package struct AttachFailure: Error, Equatable, Sendable {
  package enum Kind: Equatable, Sendable {
    case notPermitted
    case gone
    case unsupported
    case failed
  }

  package let kind: Kind
  /// For people, with what to do about it.
  package let message: String

  package init(_ kind: Kind, _ message: String) {
    self.kind = kind
    self.message = message
  }

  /// Which thread traces a process, and what it is called.
  fileprivate static func tracer(of pid: Int32) -> (number: Int32, name: String)? {
    guard let number = ProcessStatus(pid: pid)["TracerPid"].flatMap({ Int32($0) }), number != 0 else { return nil }
    return (number, readText("/proc/\(number)/comm")?.trimmingLine ?? "?")
  }

  init(_ error: SystemError, _ process: ProcessHandle) {
    let status = ProcessStatus(pid: process.pid)
    let who = "process \(process.pid)"
    guard process.isAlive else {
      self.init(.gone, "\(who) has died")
      return
    }
    switch error.errorNumber {
    case EPERM, EACCES:
      if let tracer = Self.tracer(of: process.pid) {
        self.init(
          .notPermitted,
          "\(who) is being traced by \(tracer.number) (\(tracer.name)), perhaps a debugger: end that, and try again")
      } else if let filter = status["Seccomp"], filter != "0" {
        self.init(
          .notPermitted,
          "\(who) has a seccomp filter, which can be suspended for an instant only with CAP_SYS_ADMIN; run the daemon as root"
        )
      } else {
        self.init(
          .notPermitted,
          "\(error.operation): not permitted. The daemon must be allowed to trace the process (root, or CAP_SYS_PTRACE and "
            + "CAP_SYS_ADMIN), and the process to have a userfaultfd (root, /dev/userfaultfd, or sysctl vm.unprivileged_userfaultfd=1)"
        )
      }
    case ESRCH: self.init(.gone, "\(who) has died, or runs another program now")
    case ETIMEDOUT:
      self.init(
        .failed,
        "\(who) does not stop: its main thread hangs in the kernel (state \(status["State"] ?? "D")). Try again later")
    case ENOEXEC: self.init(.unsupported, error.operation)
    default: self.init(.failed, error.description)
    }
  }
}
