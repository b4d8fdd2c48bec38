/// Gives disk space back in the background: of slots that pages have left, and, after a gradual `disable`, of the whole file.
/// It needs no gate: what is being punched is nobody's, and can't be written meanwhile.
package struct FileCleanup<Ports: TenantPorts>: Sendable {
  /// Of one step, in bytes, as in the reference.
  package static var stepBytes: Int { 64 << 20 }
  /// Between steps, in nanoseconds: while monitored slots are gathered, and may be used anew; after that the disk is spared.
  package static var monitoredDelay: UInt64 { 1_000_000_000 }
  package static var gradualDelay: UInt64 { 5_000_000_000 }

  private let memory: TenantMemory<Ports>

  package init(memory: TenantMemory<Ports>) { self.memory = memory }

  /// Whether there is anything to do.
  package var isNeeded: Bool { memory.ledger.wastedSlots > 0 }

  /// How long to wait before the next step.
  package var delayNanoseconds: UInt64 { memory.ledger.isOpen ? Self.monitoredDelay : Self.gradualDelay }

  /// A failure leaves things as they were; what was not given back is tried again.
  package func step() throws(PortFailure) {
    var left = memory.map.geometry.pages(inBytes: UInt64(Self.stepBytes))
    while left > 0, let slots = memory.ledger.beginPunch(limit: left) {
      do throws(PortFailure) { try memory.ports.file.punch(slots) } catch {
        memory.ledger.endPunch(isDone: false)
        throw error
      }
      memory.ledger.endPunch(isDone: true)
      left -= slots.count
    }
  }
}
