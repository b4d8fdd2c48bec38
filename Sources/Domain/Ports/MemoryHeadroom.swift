/// What memory is taken for.
package enum MemoryUse: Equatable, Sendable {
  /// Copies in staging memory: the daemon's own. What they are copies of is given back at once.
  case staging
  /// Pages that come back: the tenant's. Where not from the file, what they were in is given back at once.
  case returning(fromFile: Bool)
}

/// Why there is no memory to be had.
package enum MemoryShortage: Equatable, Sendable {
  /// The machine's is nearly used up.
  case machine
  /// The control group of the daemon, or one above it, is near its limit.
  case ownLimit
  /// So is the tenant's.
  case tenantLimit
  /// All tenants' staging memory together has reached the limit that it was given.
  case stagingLimit
  /// The kernel has refused.
  case kernel
}

/// How much memory may be taken before the kernel kills somebody for it: shared memory over a control group's limit is no
/// error number (only the OOM killer tells), and an installed page is charged to the tenant. So it is looked at first.
package protocol MemoryHeadroom: Sendable {
  /// What stands in the way of taking so many pages, now; nil where nothing does. Cheap enough to be asked before each batch.
  func shortage(of pages: Int, for use: MemoryUse) -> MemoryShortage?
}
