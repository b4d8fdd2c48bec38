/// How much of the daemon its clients may take. What is beyond is refused by name, or waits.
///
/// "Of user": of one uid that is neither root nor the daemon's own. So one user can't keep the others out.
enum Limits {
  static let connections = 1024
  static let connectionsOfUser = 256
  static let tenants = 1024
  static let tenantsOfUser = 256
  /// Asked for by name, each with a userfaultfd, a pidfd and a buffer; children that forks bring are served beyond it.
  static let processesOfTenant = 1024
  static let processesOfUser = 2048
  /// A tenant's pages, all together; its books take memory as its pages are out, about 30 bytes a page.
  static let pagesOfUser = 1 << 31
  /// Packets of one connection that are handled before the others' turn comes.
  static let packetsPerTurn = 16
  /// Connections that are let in before the others' turn comes.
  static let acceptsPerTurn = 16
  /// After so long in the middle of one thing, a tenant's thread is stuck, and reported.
  static let laneNanoseconds: UInt64 = 5_000_000_000
  /// After so long, a status is answered without counting what is resident.
  static let countNanoseconds: UInt64 = 2_000_000_000
}
