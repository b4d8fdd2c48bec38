import Domain
import TestSupport
import Testing

@Suite struct PageRecordTests {
  static let slots = [0, 1, 255, 256, 1 << 32 - 1, 1 << 32, (1 << 40) - 1].map { SwapSlot($0) }

  @Test("every state, slot and validity comes back as it was stored", arguments: PageState.allCases)
  func roundTrip(state: PageState) {
    let bare = PageRecord(state)
    #expect(bare.state == state && bare.slot == nil && !bare.slotIsValid && bare.validSlot == nil)
    for slot in Self.slots {
      for isValid in [false, true] {
        let record = PageRecord(rawValue: PageRecord(state, slot: slot, slotIsValid: isValid).rawValue)
        #expect(record.state == state)
        #expect(record.slot == slot)
        #expect(record.slotIsValid == isValid)
        #expect(record.validSlot == (isValid ? slot : nil))
      }
    }
  }

  @Test("different records are different words")
  func wordsAreDistinct() {
    var words: Set<UInt64> = []
    var records = 0
    for state in PageState.allCases {
      for slot in [nil] + Self.slots.map(Optional.some) {
        for isValid in slot == nil ? [false] : [false, true] {
          words.insert(PageRecord(state, slot: slot, slotIsValid: isValid).rawValue)
          records += 1
        }
      }
    }
    #expect(words.count == records)
  }

  @Test("fresh table memory reads as the guest's page, without a slot")
  func zeroIsGuest() {
    #expect(PageRecord(rawValue: 0) == .guest)
    #expect(PageRecord.guest.state == .guest && PageRecord.guest.slot == nil)
    #expect(PageRecord(.guest, slotIsValid: true) == .guest, "no slot, so nothing of it can be valid")
  }

  @Test("a state that no version writes reads as unreadable", arguments: UInt64(5)...7)
  func unknownStates(state: UInt64) {
    #expect(PageRecord(rawValue: state).state == .unreadable)
    #expect(PageRecord(rawValue: state | ~0b111).state == .unreadable)
  }

  @Test("a word with a bit that no version sets reads as unreadable", arguments: [3, 7] + Array(48...63))
  func unknownBits(bit: UInt64) {
    #expect(PageRecord(rawValue: 1 << bit).state == .unreadable)
  }

  @Test("moving a page keeps a valid slot, and gives up one that is being written")
  func moving() {
    for from in PageState.allCases {
      for to in PageState.allCases {
        let slot = SwapSlot(77)
        #expect(PageRecord(from).moved(to: to) == PageRecord(to))
        #expect(PageRecord(from, slot: slot).moved(to: to) == PageRecord(to))
        #expect(
          PageRecord(from, slot: slot, slotIsValid: true).moved(to: to) == PageRecord(to, slot: slot, slotIsValid: true)
        )
      }
    }
  }

  @Test("that processes may fail is said of the guest's pages alone; with anything else the word reads as unreadable")
  func mayFail() {
    #expect(PageRecord.guestMayFail.state == .guest && PageRecord.guestMayFail.mayFail)
    #expect(!PageRecord.guest.mayFail)
    for other in [UInt64(1), 2, 3, 4, 1 << 4, 1 << 5, 1 << 8] {
      #expect(PageRecord(rawValue: PageRecord.guestMayFail.rawValue | other).state == .unreadable)
    }
  }
}
