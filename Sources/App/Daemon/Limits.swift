/// How much of the daemon its clients may take. What is beyond is refused by name, or waits.
enum Limits {
  static let connections = 1024
  static let tenants = 1024
  /// Asked for by name; children that forks bring are served beyond it.
  static let processesOfTenant = 1024
  /// Packets of one connection that are handled before the others' turn comes.
  static let packetsPerTurn = 16
}
