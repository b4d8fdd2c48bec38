/// Whether to look for the next fault again and again for a moment, rather than sleep: being woken takes several times as long
/// as serving a page does.
///
/// Only where the last faults came one upon the other; and where the next one does not come soon, no more. So faults that
/// are rare cost no processor time, nor does a tenant that touches nothing.
package struct BurstSpin: Sendable {
  /// Faults are one upon the other where the next one is served so soon.
  package static let burstNanoseconds: UInt64 = 80_000
  /// How long the next one is looked for.
  package static let limitNanoseconds: UInt64 = 50_000
  private var lastNanoseconds: UInt64 = 0

  package init() {}

  /// Faults have just been served.
  ///
  /// - Returns: whether the next one is to be looked for.
  package mutating func begin(now: UInt64) -> Bool {
    defer { lastNanoseconds = now }
    return now &- lastNanoseconds < Self.burstNanoseconds
  }

  package func goesOn(now: UInt64) -> Bool { now &- lastNanoseconds < Self.limitNanoseconds }
}
