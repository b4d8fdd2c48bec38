/// Faults a second between two looks at the tenants' status.
struct FaultRates {
  private var counts: [String: Int] = [:]
  private var lookNanoseconds: UInt64 = 0
  /// By tenant; of those that were there at the look before.
  private(set) var perSecond: [String: Double] = [:]

  mutating func look(_ replies: [JSONValue], atNanoseconds now: UInt64) {
    let seconds = Double(now - lookNanoseconds) / 1e9
    let former = counts
    counts = [:]
    perSecond = [:]
    for reply in replies {
      guard let name = reply["tenant"]?.text else { continue }
      let count = StatusText.faults(reply)
      counts[name] = count
      guard let before = former[name], seconds > 0 else { continue }
      perSecond[name] = Double(count < before ? count : count - before) / seconds  // `enable` counts anew
    }
    lookNanoseconds = now
  }
}
