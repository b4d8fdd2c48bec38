import Domain
import Glibc
import Testing

@testable import Adapters

@Suite struct SignalFreezerTests {
  /// A child of several sleeping threads.
  private static func makeSleeper() throws -> Child {
    let child = try Child { inside in
      for _ in 0..<3 { try Thread.runDetached(name: "sleeper") { while true { pause() } } }
      inside.tell(1)
      inside.waitForEver()
    }
    try #require(child.hear() == 1)
    return child
  }

  private static func isStopped(_ child: Child) throws -> Bool {
    try ProcessTask.all(of: child.pid).allSatisfy(\.isStopped)
  }

  private static func isRunning(_ child: Child) throws -> Bool {
    try ProcessTask.all(of: child.pid).allSatisfy { !$0.isStopped }
  }

  @Test("all threads of all processes stop, and go on")
  func stopAndResume() throws {
    let children = [try Self.makeSleeper(), try Self.makeSleeper()]
    let freezer = SignalFreezer { children.map(\.handle) }
    #expect(try ProcessTask.all(of: children[0].pid).count == 4)
    #expect(try !freezer.allStopped())
    try freezer.requestStop()
    #expect(try eventually { try freezer.allStopped() })
    #expect(try Self.isStopped(children[0]) && Self.isStopped(children[1]))
    freezer.resume()
    #expect(try eventually { try Self.isRunning(children[0]) && Self.isRunning(children[1]) })
    #expect(try !freezer.allStopped())
    // And once more.
    try freezer.requestStop()
    #expect(try eventually { try freezer.allStopped() })
    freezer.resume()
    #expect(try eventually { try Self.isRunning(children[0]) && Self.isRunning(children[1]) })
  }

  @Test("a process that somebody else stopped stays stopped")
  func stoppedBefore() throws {
    let (stopped, running) = (try Self.makeSleeper(), try Self.makeSleeper())
    kill(stopped.pid, SIGSTOP)
    try #require(try eventually { try Self.isStopped(stopped) })
    let freezer = SignalFreezer { [stopped.handle, running.handle] }
    try freezer.requestStop()
    #expect(try eventually { try freezer.allStopped() })
    freezer.resume()
    #expect(try eventually { try Self.isRunning(running) })
    settle()
    #expect(try Self.isStopped(stopped))
  }

  @Test("the dead count as stopped, before, between and after")
  func dead() throws {
    let children = try (0..<3).map { _ in try Self.makeSleeper() }
    let freezer = SignalFreezer { children.map(\.handle) }
    #expect(children[0].end(signal: SIGKILL) == .signal(SIGKILL))
    try freezer.requestStop()
    #expect(try eventually { try freezer.allStopped() })
    kill(children[1].pid, SIGKILL)  // a zombie, until it is waited for
    #expect(eventually { !children[1].handle.isAlive })
    #expect(try freezer.allStopped())
    freezer.beginLook()
    #expect(try freezer.look())
    freezer.resume()
    #expect(try eventually { try Self.isRunning(children[2]) })
    #expect(children[2].end(signal: SIGKILL) == .signal(SIGKILL))
    try freezer.requestStop()
    #expect(try freezer.allStopped())
    freezer.resume()
  }

  @Test("sleeping tasks are seen outside of madvise; a busy one at the latest when it is stopped")
  func look() throws {
    let busy = try Child { inside in
      inside.tell(1)
      while true {}
    }
    try #require(busy.hear() == 1)
    let sleeper = try Self.makeSleeper()
    let freezer = SignalFreezer { [sleeper.handle] }
    freezer.beginLook()
    #expect(try eventually { try freezer.look() })
    let both = SignalFreezer { [sleeper.handle, busy.handle] }
    both.beginLook()
    try both.requestStop()
    #expect(try eventually { try both.allStopped() })
    #expect(try eventually { try both.look() })
    both.resume()
  }

  @Test(
    "a task inside of madvise is not seen outside, and does not stop, until its event is read",
    .enabled(if: Machinery.hasUserfaultfd))
  func lookAtRemover() throws {
    let child = try Child { inside in
      let arena = try Arena(pages: 2)
      arena.put(1, 0)
      inside.tell(arena.userfaultfd.raw)
      _ = arena.advise(MADV_REMOVE, 0..<1)
      inside.tell(2)
      inside.waitForEver()
    }
    let userfaultfd = try child.take(try #require(child.hear()))
    var poll = pollfd(fd: userfaultfd.raw, events: Int16(POLLIN), revents: 0)
    try #require(Glibc.poll(&poll, 1, Int32(waitLimitSeconds) * 1000) == 1)
    let freezer = SignalFreezer { [child.handle] }
    freezer.beginLook()
    #expect(
      try eventually {
        try ProcessTask.all(of: child.pid, withPlaces: true).first?.place == .insideRemoval
      })
    for _ in 0..<5 { #expect(try !freezer.look()) }
    try freezer.requestStop()
    settle()
    #expect(try !freezer.allStopped())
    var message = uffd_msg()
    #expect(read(userfaultfd.raw, &message, 32) == 32 && message.event == UFFD.EVENT_REMOVE)
    #expect(try eventually { try freezer.allStopped() })
    // It is stopped on its way out of madvise, whose number /proc still shows.
    #expect(readText("/proc/\(child.pid)/syscall")?.hasPrefix("\(Linux.SYS_madvise) ") == true)
    #expect(try freezer.look())
    freezer.resume()
    #expect(child.hear() == 2)
  }

  @Test(
    "a task in a fault is seen outside of madvise, and stops when it is served", .enabled(if: Machinery.hasUserfaultfd))
  func lookAtFault() throws {
    let child = try Child { inside in
      let arena = try Arena(pages: 2)
      inside.tell(arena.userfaultfd.raw)
      inside.tell(Int32(arena.load(1)))
      inside.waitForEver()
    }
    let userfaultfd = try child.take(try #require(child.hear()))
    var message = uffd_msg()
    try #require(eventually { read(userfaultfd.raw, &message, 32) == 32 })
    let freezer = SignalFreezer { [child.handle] }
    freezer.beginLook()
    #expect(try eventually { try freezer.look() })
    var request = uffdio_fill(
      range: uffdio_range(
        start: message.argument1 & ~UInt64(Machinery.pageBytes - 1), len: UInt64(Machinery.pageBytes)))
    try freezer.requestStop()
    #expect(ioctl(userfaultfd.raw, UFFD.UFFDIO_ZEROPAGE, &request) == 0)
    #expect(try eventually { try freezer.allStopped() })
    freezer.resume()
    #expect(child.hear() == 0)
  }

  @Test("a process's handle knows its number and its end, and does not mean its successor")
  func handle() throws {
    let child = try Self.makeSleeper()
    #expect(child.handle.pid == child.pid && child.handle.isAlive)
    #expect(fcntl(child.handle.descriptor.raw, F_GETFD) & FD_CLOEXEC != 0)
    #expect(child.end(signal: SIGKILL) == .signal(SIGKILL))
    #expect(!child.handle.isAlive)
    #expect(throws: SystemError.self) { try child.handle.send(0) }
    #expect(throws: SystemError.self) { try ProcessHandle(pidfd: child.handle.descriptor) }
    #expect(throws: SystemError.self) { try ProcessHandle(pid: child.pid) }
    #expect(throws: SystemError.self) { try ProcessHandle(pidfd: try makeMemoryFile("no-pidfd", bytes: 4096)) }
    #expect(try ProcessTask.all(of: child.pid).isEmpty)
  }
}
