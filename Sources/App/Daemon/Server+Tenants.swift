internal import Adapters
internal import Domain

/// Tenants' life cycles: commands that start, end, join or wait for jobs; deaths, and the daemon's end.
extension Server {
  func apply(_ command: Tenant.Command, to tenant: Tenant) {
    let ledger = tenant.runtime.memory.ledger
    let hasStagedPages = ledger.counts.staged > 0
    let hasWaste = ledger.wastedSlots > 0 && !command.options.cleansUpGradually
    if command.command == .unregister, !tenant.record.isLeaving {
      tenant.record.isLeaving = true
      writeDown(tenant)
    }
    let connection = connection(of: command)
    switch tenant.lifecycle.decide(command.command, hasStagedPages: hasStagedPages, hasWaste: hasWaste) {
    case .start(let job):
      // First the request, then the tenant: a request that names a job which never began is carried out anew.
      connection?.record.accept(serial: tenant.record.jobSerial + 1)
      tenant.record.jobSerial += 1
      tenant.record.options = command.options
      tenant.lifecycle.started(job)
      tenant.record.lastJob = job
      tenant.record.failure = nil
      writeDown(tenant)
      tenant.runtime.begin(job, options: command.options)
      wait(command, tenant)
    case .join:
      connection?.record.accept(serial: tenant.record.jobSerial)
      wait(command, tenant)
    case .abortThenAskAgain:
      enqueue(command, tenant)
      tenant.runtime.abortJob()
    case .waitThenAskAgain: enqueue(command, tenant)
    case .nothingToDo:
      if tenant.record.isLeaving { return depart(tenant, answering: command) }
      if command.waits { report(tenant, to: command) } else { acknowledge(command, tenant) }
    case .refuse(let state):
      guard let connection else { return }
      answer(
        connection,
        ProtocolError(
          .wrongState, "\(command.command.rawValue): the tenant is \(state.rawValue); \(Self.advice(command.command))",
          state: state))
    }
  }

  private static func advice(_ command: TenantCommand) -> String {
    switch command {
    case .trim: "it must be Pending, as enable leaves it"
    case .out: "it must be Pending, as enable leaves it, or Failed with pages in staging"
    case .enable, .disable, .unregister: "any state would be right"
    }
  }

  /// For the worker that comes after this one. Without it (the keeper can hold no more), that one knows less of the tenant's
  /// jobs, and no less of its pages.
  func writeDown(_ tenant: Tenant) {
    (tenant.record.state, tenant.record.job) = (tenant.lifecycle.settled, tenant.lifecycle.job)
    do throws(SystemError) { try tenant.runtime.holdings.store(tenant.record) } catch {
      log.warning("tenant \(tenant.name): \(error)")
    }
  }

  /// Whose wish it is; nil where they are gone, or it is the daemon's own.
  func connection(of command: Tenant.Command) -> Connection? { command.connection.flatMap { connections[$0] } }

  /// Who does not wait for the job's end is answered that it has begun.
  func wait(_ command: Tenant.Command, _ tenant: Tenant) {
    guard command.waits else { return acknowledge(command, tenant) }
    guard let connection = connection(of: command) else { return }
    tenant.waiters.append(command)
    keepBusy(connection)
  }

  func enqueue(_ command: Tenant.Command, _ tenant: Tenant) {
    tenant.queue.append(command)
    if let connection = connection(of: command) { keepBusy(connection) }
  }

  func acknowledge(_ command: Tenant.Command, _ tenant: Tenant) {
    guard let connection = connection(of: command) else { return }
    let state = tenant.lifecycle.state.rawValue
    answer(connection, ["ok": true, "tenant": .string(tenant.name), "state": .string(state)])
  }

  func jobEnded(_ tenant: Tenant, _ result: TenantRuntime.JobResult) {
    tenant.lifecycle.ended(result.end)
    tenant.record.failure = nil
    if result.job == .enable {
      tenant.record.warnings = result.warnings
      tenant.shortage = result.shortage
      for warning in tenant.warnings { log.warning("tenant \(tenant.name): \(warning)") }
    }
    let error = result.failure.map { ProtocolError($0) }
    if let error {
      log.warning("tenant \(tenant.name): \(result.job.rawValue) failed: \(error.message)")
      if tenant.lifecycle.state == .failed { tenant.record.failure = error }
    } else {
      let transition = tenant.runtime.transition
      log.info(
        "tenant \(tenant.name): \(result.job.rawValue) \(result.end == .aborted ? "ended early" : "done"): "
          + "\(transition.pages.counted("page")) in \(transition.nanoseconds / 1_000_000) ms; "
          + tenant.lifecycle.state.rawValue)
    }
    tenant.record.lastResult = TenantRecord.Result(
      serial: tenant.record.jobSerial, isAborted: result.end == .aborted, error: error)
    writeDown(tenant)
    let leaves = tenant.record.isLeaving && tenant.lifecycle.state == .ready && result.job == .disable
    let waiters = tenant.waiters
    tenant.waiters = []
    for waiter in waiters {
      guard let connection = connection(of: waiter) else { continue }
      switch (result.end, error) {
      case (.failed, let error?): answer(connection, error)
      case (.aborted, _):
        answer(connection, ProtocolError(.aborted, "\(waiter.command.rawValue): another command has ended it"))
      default:
        if leaves && waiter.command == .unregister {
          // Answered when it is forgotten.
          tenant.queue.append(waiter)
        } else {
          report(tenant, to: connection)
        }
      }
    }
    if leaves { return depart(tenant, answering: nil) }
    // An unregister that failed leaves a tenant that can be told again, unless it lost its connection or the daemon ends.
    if case .failed = result.end, tenant.record.isLeaving {
      if isEnding {
        log.error(
          "tenant \(tenant.name): not everything is back, so the daemon stays; ask disable when the cause is gone")
        endNextTenant()
      } else if tenant.record.attachment != nil || connections[tenant.record.connection] != nil {
        tenant.record.isLeaving = false
        writeDown(tenant)
      }
    }
    let queue = tenant.queue
    tenant.queue = []
    for command in queue where tenants[tenant.identifier] != nil { askAgain(command, tenant) }
    // An unregister may have joined a disable that another command has ended.
    if tenant.record.isLeaving, tenants[tenant.identifier] != nil, tenant.lifecycle.job == nil,
      tenant.lifecycle.state != .failed
    {
      apply(Tenant.Command(command: .unregister, connection: nil, waits: false), to: tenant)
    }
  }

  private func askAgain(_ command: Tenant.Command, _ tenant: Tenant) {
    if let connection = connection(of: command) {
      connection.isBusy = true
    } else if command.connection != nil && command.command != .unregister {
      return  // who asked is gone
    }
    if tenant.record.isLeaving && command.command != .unregister && command.command != .disable {
      if let connection = connection(of: command) {
        answer(connection, ProtocolError(.aborted, "\(command.command.rawValue): the tenant is being unregistered"))
      }
      return
    }
    apply(command, to: tenant)
  }

  // MARK: Ends

  /// The tenant's memory is back, or dead: nothing of it stays.
  func forget(_ tenant: Tenant, answering command: Tenant.Command?) {
    tenants[tenant.identifier] = nil
    names[tenant.name] = nil
    for (token, process) in tenant.processes { unwatch(process, token, of: tenant) }
    claims.release(tenant: tenant.name)
    if let connection = connections[tenant.record.connection] { connection.tenant = nil }
    let (runtime, identifier) = (tenant.runtime, tenant.identifier)
    runtime.holdings.dropAll()
    // Its threads may be in the middle of something: they end on their own time.
    departures[identifier] = Transit(name: tenant.name, user: tenant.record.user, "goodbye")
    do throws(ProtocolError) {
      try inBackground(Thread.name("goodbye", of: identifier.serial)) {
        runtime.shutDown()
      } then: { server, _ in
        server.departures[identifier] = nil
      }
    } catch {
      runtime.shutDown()
      departures[identifier] = nil
    }
    log.info("tenant \(tenant.name): forgotten")
    if let connection = command.flatMap(connection(of:)) { answerGone(connection, tenant) }
    for command in tenant.queue {
      guard let connection = connection(of: command) else { continue }
      if command.command == .unregister || command.command == .disable {
        answerGone(connection, tenant)
      } else {
        answer(connection, ProtocolError(.aborted, "\(command.command.rawValue): the tenant is gone"))
      }
    }
    tenant.queue = []
    for (token, _) in tenant.reported + tenant.statusWaiters {
      if let connection = connections[token] {
        answer(connection, ProtocolError(.noSuchTenant, "tenant: \(tenant.name) is gone"))
      }
    }
    (tenant.reported, tenant.statusWaiters) = ([], [])
    if isEnding { endNextTenant() }
  }

  /// All of the tenant's processes are dead: its memory needs nobody any more.
  func bury(_ tenant: Tenant) {
    let waiters = tenant.waiters
    tenant.waiters = []
    forget(tenant, answering: nil)
    for waiter in waiters {
      guard let connection = connection(of: waiter) else { continue }
      answer(connection, ProtocolError(.aborted, "\(waiter.command.rawValue): the tenant's last process has died"))
    }
  }

  func beginEnd() {
    guard let signal = signals.take() else { return }
    log.info("signal \(signal): bringing every tenant's memory back")
    if !isEnding {
      isEnding = true
      endNextTenant()
    }
  }

  func endNextTenant() {
    guard let tenant = tenants.values.filter({ !$0.record.isLeaving }).min(by: { $0.name < $1.name }) else { return }
    apply(Tenant.Command(command: .unregister, connection: nil, waits: false), to: tenant)
  }
}
