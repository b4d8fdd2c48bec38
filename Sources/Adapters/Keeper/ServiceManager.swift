internal import Glibc

/// systemd, which keeps descriptors for a service that has died altogether (sd_notify(3), FDSTORE).
struct ServiceManager {
  private let socket: SequencedSocket

  /// - Parameter address: $NOTIFY_SOCKET: a path, or an abstract name after "@".
  init(address: String) throws(SystemError) {
    let kind = Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue)
    let descriptor = Descriptor(owning: try checked("socket") { Glibc.socket(AF_UNIX, kind, 0) })
    // A manager that does not read holds nobody up for long.
    var limit = timeval(tv_sec: 0, tv_usec: 200_000)
    setsockopt(descriptor.raw, SOL_SOCKET, SO_SNDTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    try withAddress(
      address, isAbstract: address.hasPrefix("@"), "connecting to the service manager at \(address)"
    ) { connect(descriptor.raw, $0, $1) }
    socket = SequencedSocket(adopting: descriptor)
  }

  func store(_ descriptor: Descriptor, as key: HeldKey) throws(SystemError) {
    try tell("FDSTORE=1\nFDPOLL=0\nFDNAME=\(key.name)", [descriptor])
  }

  func remove(_ key: HeldKey) throws(SystemError) { try tell("FDSTOREREMOVE=1\nFDNAME=\(key.name)") }

  func tellReady() throws(SystemError) { try tell("READY=1\nMAINPID=\(getpid())") }
  /// - Parameter status: a line for people.
  func tellAlive(status: String) throws(SystemError) {
    try tell("WATCHDOG=1\nSTATUS=\(String(status.prefix(200).filter { $0.isASCII && !$0.isNewline && $0 != "\0" }))")
  }
  func tellStopping() throws(SystemError) { try tell("STOPPING=1") }

  private func tell(_ text: String, _ descriptors: [Descriptor] = []) throws(SystemError) {
    guard try socket.send(Array(text.utf8), descriptors: descriptors) else {
      throw SystemError("telling the service manager", errorNumber: EAGAIN)
    }
  }
}
