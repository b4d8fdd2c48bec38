internal import Adapters
internal import Domain

/// Children whose forks an earlier worker had read, and whom it had not handed to the keeper yet.
extension Server {
  /// Before anybody reads an event: the numbers in the buffers are those of the earlier worker's descriptors.
  func takeLeftChildren() {
    let held = link.held
    guard let sharer = held[HeldRole.sharerKey] else { return }
    do throws(SystemError) {
      let left = SharedDescriptors(leftWith: try ProcessHandle(pidfd: sharer))
      for (key, file) in held where key.role == HeldRole.events.rawValue {
        try takeChildren(of: key, EventBuffer(adopting: file), from: left)
      }
    } catch { log.error("forked children that nobody serves yet may be lost: \(error)") }
  }

  private func takeChildren(of parent: HeldKey, _ events: EventBuffer, from left: SharedDescriptors) throws(SystemError)
  {
    let group = parent.group
    for number in 0..<events.count {
      guard case .forked(let child) = events.event(at: number), let userfaultfd = left.userfaultfd(child) else {
        continue
      }
      let known = link.held.filter { $0.key.group == group && $0.key.role == HeldRole.userfaultfd.rawValue }
      // It may have been handed over just before the worker's death.
      if !known.contains(where: { Userfaultfd.isSame($0.value, userfaultfd) }) {
        let index = Int(known.keys.map(\.index).max() ?? 0) + 1
        let record = link.record(ProcessRecord.self, at: HeldRole.processRecord.key(group, Int(parent.index)))
        if let record {
          try link.store(record: ProcessRecord(childOf: record), as: HeldRole.processRecord.key(group, index))
        }
        try link.hold([(HeldRole.userfaultfd.key(group, index), userfaultfd)])
        log.info("a forked child that only the dead worker knew of is served")
      }
      events.settle(at: number)
    }
  }

  /// So that the next worker can do the same. From here on no earlier one's are needed.
  func share(_ descriptors: Result<SharedDescriptors, SystemError>) {
    let left = link.held[HeldRole.sharerKey]
    do throws(SystemError) {
      let shared = try descriptors.get()
      sharedDescriptors = shared
      try link.hold([(HeldRole.sharerKey, shared.process.descriptor)])
    } catch {
      log.warning("children that are forked just as this worker dies would be lost: \(error)")
      link.drop(HeldRole.sharerKey)
    }
    if let left { attempt { try ProcessHandle(pidfd: left).kill() } }  // else it is dead
  }
}
