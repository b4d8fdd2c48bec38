internal import Glibc

/// A thread with a small stack and a name. Whoever starts it joins it.
package final class Thread: @unchecked Sendable {  // pthread_t is written before anybody else sees the object
  private var handle = pthread_t()
  /// Deep enough for a debug build's JSON coding.
  private static let stackBytes = 512 << 10

  /// Of a thread that works for a tenant, by that one's serial: "12 faults". Threads that it starts get the number too.
  package static func name(_ name: String, of serial: UInt64) -> String { "\(serial) \(name)" }

  /// - Returns: nil for a name without a number.
  static func serial(inName name: some StringProtocol) -> UInt64? { UInt64(name.prefix { $0.isNumber }) }

  /// - Parameter name: at most 15 characters are shown (pthread_setname_np(3)).
  package init(name: String, _ body: @escaping @Sendable () -> Void) throws(SystemError) {
    let inherited = Self.serial(inName: Self.ownName)
    let name = inherited.map { Self.serial(inName: name) == nil ? Self.name(name, of: $0) : name } ?? name
    final class Start {
      let name: String
      let body: @Sendable () -> Void
      init(name: String, body: @escaping @Sendable () -> Void) {
        self.name = name
        self.body = body
      }
    }
    var attributes = pthread_attr_t()
    pthread_attr_init(&attributes)
    defer { pthread_attr_destroy(&attributes) }
    pthread_attr_setstacksize(&attributes, Self.stackBytes)
    let start = Unmanaged.passRetained(Start(name: name, body: body))
    let failure = pthread_create(
      &handle, &attributes,
      { argument in
        // Safety: the argument is the object retained above, taken over exactly once.
        let start = Unmanaged<Start>.fromOpaque(argument!).takeRetainedValue()
        pthread_setname_np(pthread_self(), String(start.name.prefix(15)))
        start.body()
        return nil
      }, start.toOpaque())
    guard failure == 0 else {
      start.release()
      throw SystemError("starting the thread \(name)", errorNumber: failure)
    }
  }

  private static var ownName: String {
    var name = [CChar](repeating: 0, count: 16)
    pthread_getname_np(pthread_self(), &name, name.count)
    return String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  package func join() { pthread_join(handle, nil) }

  /// The calling thread works for moments only, and what wakes it can't wait: with short slices the scheduler lets it run before
  /// threads that work for long, and gives it no more of the processor than them. (Linux 6.12; before, nothing changes.)
  package static func askForShortSlices() { askForSlices(shortestSliceNanoseconds) }

  /// The calling thread works for long, and so do those that it starts: with long slices whoever wakes up, a tenant's threads
  /// too, runs at once, and it gets no less of the processor in the end.
  package static func askForLongSlices() { askForSlices(longestSliceNanoseconds) }

  private static func askForSlices(_ nanoseconds: UInt64) {
    let bytes = 48  // struct sched_attr of <linux/sched/types.h>, SCHED_ATTR_SIZE_VER0
    withUnsafeTemporaryAllocation(byteCount: bytes, alignment: 8) { attributes in
      attributes.initializeMemory(as: UInt8.self, repeating: 0)
      attributes.storeBytes(of: UInt32(bytes), as: UInt32.self)
      attributes.storeBytes(
        of: getpriority(__priority_which_t(PRIO_PROCESS.rawValue), 0), toByteOffset: 16, as: Int32.self)  // sched_nice
      attributes.storeBytes(of: nanoseconds, toByteOffset: 24, as: UInt64.self)  // sched_runtime
      // Safety: the kernel reads so many bytes, as the first of them say.
      _ = c_syscall(Linux.SYS_sched_setattr, 0, Int(bitPattern: attributes.baseAddress), 0, 0, 0)
    }
  }

  /// What can be asked for (kernel/sched/syscalls.c).
  private static let shortestSliceNanoseconds: UInt64 = 100_000
  private static let longestSliceNanoseconds: UInt64 = 100_000_000

  /// The processor on which the calling thread runs.
  package static var processor: Int { Int(sched_getcpu()) }

  /// Has the calling thread run on other processors meanwhile, where there are others that it may use.
  package static func avoiding(processor: Int?, _ body: () -> Void) {
    guard let processor else { return body() }
    withUnsafeTemporaryAllocation(byteCount: mostProcessors / 8, alignment: 8) { mask in
      // Safety: the kernel writes so many bytes at most.
      let bytes = c_syscall(
        Linux.SYS_sched_getaffinity, 0, mask.count, Int(bitPattern: mask.baseAddress), 0, 0)
      // Safety: the kernel reads what it has written.
      let (byte, bit) = (processor / 8, UInt8(1) << UInt8(processor % 8))
      func allow() { _ = c_syscall(Linux.SYS_sched_setaffinity, 0, bytes, Int(bitPattern: mask.baseAddress), 0, 0) }
      guard byte < bytes, mask[byte] & bit != 0 else { return body() }
      mask[byte] &= ~bit
      allow()  // refused where that leaves none
      mask[byte] |= bit
      defer { allow() }
      body()
    }
  }

  /// What the kernel may be built for (CONFIG_NR_CPUS).
  private static let mostProcessors = 8192

  /// Lets other threads run.
  package static func yield() { sched_yield() }

  /// A thread that nobody waits for.
  package static func runDetached(name: String, _ body: @escaping @Sendable () -> Void) throws(SystemError) {
    pthread_detach(try Thread(name: name, body).handle)
  }
}

/// Wakes a thread that waits in poll or epoll.
package final class WakeUp: Sendable {
  package let descriptor: Descriptor

  package init() throws(SystemError) {
    descriptor = Descriptor(owning: try checked("eventfd") { c_eventfd(0, Linux.EFD_CLOEXEC | Linux.EFD_NONBLOCK) })
  }

  package func signal() {
    var one: UInt64 = 1
    _ = retryingInterrupts { write(descriptor.raw, &one, 8) }
  }

  package func clear() {
    var count: UInt64 = 0
    _ = retryingInterrupts { read(descriptor.raw, &count, 8) }
  }
}

/// A bounded queue between threads.
package final class BoundedQueue<Element: Sendable>: @unchecked Sendable {  // its fields are guarded by `monitor`
  private let monitor = Monitor()
  private let capacity: Int
  private var elements: [Element] = []
  private var isClosed = false

  package init(capacity: Int) {
    self.capacity = capacity
    elements.reserveCapacity(capacity)
  }

  /// - Returns: false when the queue is full or closed.
  package func offer(_ element: Element) -> Bool {
    monitor.withLock {
      guard elements.count < capacity, !isClosed else { return false }
      elements.append(element)
      monitor.wakeOne()  // there are only takers
      return true
    }
  }

  /// Waits for an element; nil once the queue is closed and empty.
  package func take() -> Element? {
    monitor.withLock {
      while elements.isEmpty && !isClosed { monitor.wait() }
      return elements.isEmpty ? nil : elements.remove(at: 0)  // removeFirst() would allocate, generic as this is
    }
  }

  package func close() {
    monitor.withLock {
      isClosed = true
      monitor.wakeAll()
    }
  }
}
