/// Failures of calls that the simulation does not make, because the domain has no answer to them; each is one switch.
enum KnownTrouble {
  /// SEEK_DATA or pwrite failing between a punch that left zeroed data behind (a pinned page) and its repair. The
  /// staged copy is kept then, but the guest reads the zeros. Pages that a memfd has can be sought and written: neither
  /// call fails in Linux.
  static let repairMayFail = false
}
