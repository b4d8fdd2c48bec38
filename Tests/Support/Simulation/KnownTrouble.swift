/// What the simulation does not do, because the domain has no answer to it; each is one switch.
enum KnownTrouble {
  /// pwrite failing to repair what a punch left behind as zeros (a pinned page). The staged copy is kept then, but the
  /// guest reads the zeros. Pages that a memfd has can be written: the call does not fail in Linux.
  static let repairMayFail = false
}
