/// Staged pages on their way to consecutive slots.
package struct WriteBatch: Equatable, Sendable {
  package let pages: [PageIndex]
  package let slots: SlotRange
}
