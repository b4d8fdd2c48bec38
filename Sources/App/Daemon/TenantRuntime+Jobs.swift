internal import Adapters
internal import Domain

/// The thread that carries out commands.
extension TenantRuntime {
  /// A failure is tried again: nothing else can be done for the tenant before this is.
  func takeOver(_ left: LeftTenant) {
    var left = left
    let log = Log.Limited(log)
    repeat {
      jobLane.enter()
      defer { jobLane.leave() }
      do throws(JobFailure) {
        switch try left.step(self.log) {
        case .again: if left.mayBeServed { open() }
        case .retryAfter(let nanoseconds):
          jobLane.leave()
          pause(nanoseconds)
        case .finished: return open()
        }
      } catch {
        log.warning("tenant \(name): taking over: \(ProtocolError(error).message)")
        jobLane.leave()
        pause(Self.failureDelayNanoseconds)
      }
    } while !mustEnd
  }

  func runJobs() {
    var lastAccepts: AcceptedRisks = []
    Thread.askForLongSlices()
    while let job = takeJob() {
      let options = monitor.withLock { self.options }
      if job == .enable { lastAccepts = options.accepts }
      var work: any SteppedJob =
        switch job {
        case .enable:
          EnableJob(memory: memory, freeze: freeze, accepts: options.accepts)
        case .trim: TrimJob(memory: memory)
        case .out: OutJob(memory: memory, freeze: freeze, accepts: lastAccepts)
        case .disable: DisableJob(memory: memory, cleansUpGradually: options.cleansUpGradually)
        }
      var result = run(&work, job)
      if let enable = work as? EnableJob<LinuxPorts> {
        (result.warnings, result.shortage) = (Self.warnings(of: enable) + stopWarnings(), enable.shortage)
      }
      if let out = work as? OutJob<LinuxPorts> { report(out) }
      waits.end()
      memory.ports.helper.end()
      memory.ports.file.rest()
      memory.ports.staging.buffers.releaseLarge()
      finishProgress(work)
      if case .unreadable? = result.failure { reportUnreadable() }
      jobEnded(result)
      cleaner.ask()
    }
  }

  /// Waits for one, and gives staged copies back meanwhile.
  private func takeJob() -> TenantJob? {
    let log = Log.Limited(log)
    while true {
      if memory.ledger.counts.releasable > 0 { callRelease(.inQuiet) }
      let (job, call) = monitor.withLock {
        while isIdle, releaseIsCalled(.none) { monitor.wait() }
        while isIdle, releaseIsCalled(.inQuiet) {
          let steps = faultSteps.load(ordering: .relaxed)
          monitor.wait(untilNanoseconds: memory.ports.clock.nowNanoseconds + Self.releaseDelayNanoseconds)
          if steps == faultSteps.load(ordering: .relaxed) { break }
        }
        defer { nextJob = nil }
        return (nextJob, releaseCall.exchange(ReleaseCall.none.rawValue, ordering: .relaxed))
      }
      if mustEnd { return nil }
      if let job { return job }
      releaseStaging(few: call == ReleaseCall.few.rawValue, log)
    }
  }

  /// To be asked under `monitor`, as `releaseIsCalled` is.
  private var isIdle: Bool { nextJob == nil && !mustEnd }

  private func releaseIsCalled(_ call: ReleaseCall) -> Bool {
    releaseCall.load(ordering: .relaxed) == call.rawValue
  }

  /// A few copies; or all, until a job is to be done, or, with not many left, a fault has come.
  private func releaseStaging(few: Bool, _ log: Log.Limited) {
    let limit = few ? Self.releasedAtOnce : memory.map.geometry.hugePagePages
    let steps = faultSteps.load(ordering: .relaxed)
    jobLane.enter()
    defer { jobLane.leave() }
    // Where faults are served no other thread is to run: the next one would be served by a processor that sleeps.
    Thread.avoiding(processor: few ? nil : faultProcessor.load(ordering: .relaxed)) {
      do throws(PortFailure) {
        while try memory.releaseStaging(limit: limit) == limit, !few, monitor.withLock({ isIdle }) {
          let isQuiet = steps == faultSteps.load(ordering: .relaxed)
          if !isQuiet, memory.ledger.counts.releasable < releaseBound / 2 { break }
        }
      } catch { log.warning("tenant \(name): \(ProtocolError(error).message)") }
    }
  }

  private func run(_ work: inout any SteppedJob, _ job: TenantJob) -> JobResult {
    do throws(JobFailure) {
      while true {
        if mayNotGoOn(job, mayAbort: work.mayAbort) {
          work.abort()
          return JobResult(job: job, end: .aborted, failure: nil)
        }
        jobLane.enter()
        defer { jobLane.leave() }
        let step = try work.step()
        let (pages, examinedPages) = (work.pages, work.examinedPages)
        monitor.withLock { (progress.pages, progress.examinedPages) = (pages, examinedPages) }
        if job == .disable { waits.note(work.shortage) }
        switch step {
        case .again: break
        case .retryAfter(let nanoseconds):
          for process in memory.ports.processes where !process.isAlive { processGone(process) }
          jobLane.leave()
          pause(nanoseconds)
        case .finished: return JobResult(job: job, end: .finished, failure: nil)
        }
      }
    } catch {
      // `enable` that moved nothing has changed nothing; the others may have failed half way.
      return JobResult(job: job, end: .failed(unchanged: job == .enable && work.pages == 0), failure: error)
    }
  }

  /// `enable` ends for nobody but the tenant's death.
  private func mayNotGoOn(_ job: TenantJob, mayAbort: Bool) -> Bool {
    monitor.withLock { mustEnd || isAborting && job != .enable && mayAbort }
  }

  func pause(_ nanoseconds: UInt64) {
    let deadline = memory.ports.clock.nowNanoseconds + nanoseconds
    monitor.withLock { if !mustEnd { monitor.wait(untilNanoseconds: deadline) } }
  }

  private func finishProgress(_ work: any SteppedJob) {
    let now = memory.ports.clock.nowNanoseconds
    let (pages, examinedPages) = (work.pages, work.examinedPages)
    monitor.withLock {
      progress = StateTransition(
        pages: pages, examinedPages: examinedPages, nanoseconds: now - (jobStartNanoseconds ?? now))
      jobStartNanoseconds = nil
    }
  }
}
