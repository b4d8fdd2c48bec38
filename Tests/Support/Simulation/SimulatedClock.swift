import Domain

package struct SimulatedClock: Clock {
  let scheduler: Scheduler
  package var nowNanoseconds: UInt64 { scheduler.now }
}
