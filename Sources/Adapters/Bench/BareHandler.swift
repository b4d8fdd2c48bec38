internal import Glibc
internal import Synchronization

/// Serves missing-page faults from staging memory with nothing but poll, read and UFFDIO_COPY, in a thread.
package final class BareHandler: Sendable {
  private let memory: BareMemory
  private let wakeUp: WakeUp
  private let isOver = Atomic(false)
  private let thread = Mutex<Thread?>(nil)

  private static let messages = 16

  /// - Parameter isBusy: it reads again and again, and never sleeps.
  package init(_ memory: BareMemory, isBusy: Bool) throws(SystemError) {
    self.memory = memory
    wakeUp = try WakeUp()
    let started = try Thread(name: "bare-handler") { [self] in serve(isBusy) }
    thread.withLock { $0 = started }
  }

  package func stop() {
    isOver.store(true, ordering: .relaxed)
    wakeUp.signal()
    thread.withLock { $0?.join() }
  }

  private func serve(_ isBusy: Bool) {
    var messages = [uffd_msg](repeating: uffd_msg(), count: Self.messages)
    var polls = [memory.userfaultfd, wakeUp.descriptor].map { pollfd(fd: $0.raw, events: Int16(POLLIN), revents: 0) }
    while !isOver.load(ordering: .relaxed) {
      if !isBusy { _ = poll(&polls, nfds_t(polls.count), -1) }
      let bytes = read(memory.userfaultfd.raw, &messages, Self.messages * MemoryLayout<uffd_msg>.stride)
      guard bytes > 0 else { continue }
      for message in messages.prefix(bytes / MemoryLayout<uffd_msg>.stride) where message.event == UFFD.EVENT_PAGEFAULT
      {
        let (page, source) = memory.staged(atAddress: message.argument1)
        // Two threads may wait for one page: the second finds it there.
        do throws(SystemError) { try memory.copy(page..<page + 1, from: source) } catch {}
      }
    }
  }
}
