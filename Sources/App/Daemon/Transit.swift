internal import Adapters

/// A tenant that comes or goes, on a thread that its client can keep waiting.
struct Transit {
  let name: String
  let user: UInt32
  let lane: Lane
  /// The log has told that it takes long.
  var isReported = false

  init(name: String, user: UInt32, _ what: String) {
    self.name = name
    self.user = user
    lane = Lane(what)
    lane.enter()
  }
}

extension Lane {
  /// Something is in its way that should not be there.
  var isStuck: Bool { busyNanoseconds >= Limits.laneNanoseconds }

  /// For people.
  var complaint: String {
    "its thread \"\(name)\" has been in the middle of one thing for \(busyNanoseconds / 1_000_000_000) s: one of its processes "
      + "holds a lock of the kernel's (its memory's, or the memfd's), or the disk does not answer"
  }
}
