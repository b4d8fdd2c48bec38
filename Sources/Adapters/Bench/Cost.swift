internal import Glibc

/// What a piece of work took: time on the clock, and of processors.
package struct Cost: Sendable {
  package let nanoseconds: UInt64
  package let processorNanoseconds: UInt64

  /// Measures a piece of work.
  ///
  /// - Parameter workers: who does it; none for this process itself.
  package static func measure<Failure: Error>(
    of workers: [ProcessHandle] = [], _ body: () throws(Failure) -> Void
  ) throws(Failure) -> Cost {
    let clock = SystemClock()
    let (start, startProcessor) = (clock.nowNanoseconds, processorNanoseconds(of: workers))
    try body()
    let nanoseconds = clock.nowNanoseconds - start
    return Cost(
      nanoseconds: nanoseconds, processorNanoseconds: processorNanoseconds(of: workers) &- startProcessor)
  }

  /// Processor time of all threads that these processes have had.
  private static func processorNanoseconds(of workers: [ProcessHandle]) -> UInt64 {
    guard !workers.isEmpty else { return read(CLOCK_PROCESS_CPUTIME_ID) }
    var sum: UInt64 = 0
    for worker in workers {
      var clock = clockid_t()
      if clock_getcpuclockid(worker.pid, &clock) == 0 { sum += read(clock) }
    }
    return sum
  }

  /// Page faults of the calling thread (getrusage(2)).
  ///
  /// - Parameter thatReadTheDisk: those alone for which the kernel did so itself.
  package static func faults(thatReadTheDisk: Bool) -> Int {
    var usage = rusage()
    getrusage(RUSAGE_THREAD, &usage)
    return usage.ru_majflt + (thatReadTheDisk ? 0 : usage.ru_minflt)
  }

  private static func read(_ clock: clockid_t) -> UInt64 {
    var time = timespec()
    return clock_gettime(clock, &time) == 0 ? UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec) : 0
  }
}
