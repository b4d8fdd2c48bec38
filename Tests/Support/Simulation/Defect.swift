/// A bug planted in the simulated outside, or in how the simulation drives the domain: each breaks one rule that pages
/// live by (RULES.md), or a clause of it. The simulation is believed because it finds what each of them does.
///
/// What only `Sources` could break is planted as near as can be: where a service would have to forget something, a port
/// forgets it.
package enum Defect: String, CaseIterable, Sendable {
  case checksumsAreStoredLate = "rule 1: a checksum is stored after the word that makes it valid"
  case recordsAreStoredInHalves = "rule 1: a record's slot is stored before its state"

  case writesReachOneSlotMore = "rule 2: a slot is written that is not free"
  case writesEndLate = "rule 2: a write goes on after its end"
  case abandonedWritesAreTrusted = "rule 2: a page removed while it is written is trusted to be in the file"

  case copiesComeLate = "rule 3: the copy takes place after the punch"
  case protectionEndsAtPunch = "rule 3: protection is lifted before the hole is made"
  case zerosAreRemembered = "rule 3: a copy passes for zeros because the page's last one was"
  case copiesAreFreedBeforeInstall = "rule 3: a staged copy is freed before its page is back"
  case releaseTakesOneMore = "rule 3: a page's staged copy is freed with another's"
  case writesAreGarbage = "rule 3: a page is recorded as in the file, and was not written"
  case shortWritesPass = "rule 3: a write cut short passes for a whole one"
  case flushIsTriedAgain = "rule 3: a failed flush is tried again, and the writes before it are not"

  case nothingHoldsWriters = "rule 4: neither protection nor a freeze holds writers"
  case protectionIsSkipped = "rule 4: nothing is protected, processes are only stopped"
  case protectionIsSkippedWhereStopped = "rule 4: a stopped process is not protected"
  case onlyFirstIsProtected = "rule 4: only the first process is protected"
  case pagesAreReadBeforeProtection = "rule 4: pages are read before protection stands"
  case extentsAreListedBeforeProtection = "rule 4: extents are listed before protection stands"

  case extentsAreFoundByTouching = "rule 5: a hole is touched through a mapping"

  case punchesAreInPieces = "rule 6: a huge page is punched in pieces, and what is left looks like a hole"
  case punchesTakeTenantsPages = "rule 6: a punch takes pages along that became the tenant's again"
  case leftDataLooksLikeHole = "rule 6: what a punch leaves is not looked for"
  case repairsAreSkipped = "rule 6: what a punch leaves is not repaired"
  case repairsComeLate = "rule 6: what a punch leaves is repaired after protection has ended"
  case undonePunchesStayRecorded = "rule 6: a punch that leaves data does not undo the record"

  case edgesAreMovedLive = "rule 6: a huge page is punched in part while its readers run"
  case livePunchesAreInPieces = "rule 6: a huge page is punched in pieces while its readers run"

  case removesAreSwallowed = "rule 7: removes are not told of"
  case lookSeesNobody = "rule 7: tasks inside madvise are not seen"
  case lookMissesEarlyRemoves = "rule 7: a madvise begun before REGISTER is not seen"
  case removersCountAsStopped = "rule 7: a task inside madvise counts as stopped"
  case redundantFaultsSettle = "rule 7: a fault that finds its page there settles a removal"
  case removesCountAsHoles = "rule 7: a removed page counts as a hole before one is seen"

  case nothingIsServedInFreezes = "rule 8: faults and removes wait for the end of a freeze"

  case gateDoesNotExclude = "rule 9: the gate excludes nobody"
  case sharedEntersExclusive = "rule 9: events are read, and pages moved, while others look up and install"
  case exclusiveEntersShared = "rule 9: look-up and COPY are not one step"
  case releasingEntersExclusive = "rule 9: copies are given back while pages move into their place"
  case lookUpsAreRemembered = "rule 9: pages are not looked up again after disk I/O"

  case removesAreToldLate = "rule 10: faults before removes"
  case pendingEventsPassForDone = "rule 10: EAGAIN passes for success"
  case fullQueuesForget = "rule 10: a fault that finds the queue full is forgotten"
  case nothingIsTriedAgain = "rule 10: what got EAGAIN is tried again after the next event only"

  case eventsAreNotShared = "rule 11: events are read into memory that dies with the worker"
  case eventsAreClearedLate = "rule 11: applied events stay while pages move on"

  case eventsAreReadOnlyWhileMonitored = "rule 12: nothing is read after the end of monitoring"
  case readingWaits = "rule 12: reading waits for an event"
  case unregisteredEarly = "rule 12: memory is unregistered before its pages are back"
  case unreadableIsUnregistered = "rule 12: memory with unreadable pages is unregistered"

  case installOverwrites = "rule 13: COPY overwrites what the guest has"
  case presentPagesWakeNobody = "rule 13: who waits for a page that is there is not woken"
  case onlyFirstIsWoken = "rule 13: waiters are woken on another process's userfaultfd"
  case noMemoryBecomesZeros = "rule 13: ENOMEM is answered with zeros"
  case goneIsBelieved = "rule 13: ESRCH is believed while the process lives"

  case readyIsBelieved = "rule 14: an enable that died is not taken over, because the tenant was Ready before it"
  case copiesAreRecordedEarly = "rule 14: a page is recorded as punching before its copy is complete"
  case punchingIsBelievedToBeGuests = "rule 14: what a punch has left is believed, and not the staged copy"
  case punchesAreRepeatedInPart = "rule 14: a half-done punch is made again, in part, while readers run"
  case stagedIsBelievedOverGuest = "rule 14: a staged copy is believed though the guest has data"
  case protectionEndsBeforePunchesAreSettled = "rule 14: protection is lifted before half-done punches are settled"
  case halfWrittenSlotsAreTrusted = "rule 14: a slot that was just being written is trusted"
  case forgottenCopiesStay = "rule 14: staged copies that nobody needs are not looked for"
  case protectionStays = "rule 14: protection is not lifted"
  case nobodyIsWoken = "rule 14: who waits for what the dead worker had read is not woken"
  case poisonIsForgotten = "rule 14: unreadable pages are forgotten"
  case healingIsForgotten = "rule 14: pages that processes may still fail at are forgotten"
  case interruptedMovesGoOn = "rule 14: an interrupted move goes on, without a look for removals under way"
  case stoppedStayStopped = "rule 14: stopped processes are not let go on"
  case stoppedGoOnEarly = "rule 14: stopped processes go on before what a punch left is repaired"

  case lateIsNotRegistered = "rule 15: a late process is not registered"
  case lateIsNotProtected = "rule 15: a late process is not protected"
  case lateIsNotPoisoned = "rule 15: a late process reads zeros in place of unreadable pages"
  case lateJoinsAtOnce = "rule 15: a late process joins in the middle of a window's move"
  case failedRegistrationStays = "rule 15: a registration that fails half way is not rolled back"

  case checksumsCollide = "rule 16: bytes from the disk are not checked"
  case checkedIsNotInstalled = "rule 16: what is installed is not what was checked"
  case wrongReadsAreHidden = "rule 16: a slot that was read wrong once is trusted again"

  /// Histories in which it does harm soon.
  package var flavour: HistoryPlan.Flavour {
    switch self {
    case .punchesAreInPieces, .leftDataLooksLikeHole, .repairsAreSkipped, .repairsComeLate: .init(mayKill: false)
    case .edgesAreMovedLive, .livePunchesAreInPieces: .init(mayKill: false, pinsAlways: true, freezes: [.live])
    case .punchesAreRepeatedInPart: .init(mayKill: false, diesOften: true, pinsAlways: true, freezes: [.live])
    case .undonePunchesStayRecorded: .init(faults: .random(perMille: 60), mayKill: false)
    case .shortWritesPass, .failedRegistrationStays: .init(faults: .random(perMille: 40), mayKill: false)
    case .flushIsTriedAgain, .wrongReadsAreHidden:
      .init(faults: .random(perMille: 40), mayKill: false, style: .trimming)
    case .abandonedWritesAreTrusted: .init(mayPin: false, mayKill: false, style: .brief)
    case .redundantFaultsSettle: .init(mayPin: false, mayKill: false, style: .crowd, isShared: true)
    case .eventsAreReadOnlyWhileMonitored: .init(mayPin: false, mayKill: false, style: .crowd)
    case .gateDoesNotExclude, .exclusiveEntersShared, .lookUpsAreRemembered, .fullQueuesForget:
      .init(mayPin: false, mayKill: false, style: .trimming)
    case .zerosAreRemembered: .init(mayPin: false, mayKill: false, style: .trimming)
    case .extentsAreFoundByTouching: .init(mayPin: false, mayKill: false, style: .trimming, isShared: true)
    case .protectionIsSkipped, .protectionIsSkippedWhereStopped, .onlyFirstIsProtected, .sharedEntersExclusive,
      .onlyFirstIsWoken, .lateIsNotRegistered, .lateIsNotProtected, .lateJoinsAtOnce:
      .init(mayPin: false, mayKill: false, isShared: true)
    case .unreadableIsUnregistered, .lateIsNotPoisoned:
      .init(corruptsPerMille: 300, mayPin: false, mayKill: false, isShared: true)
    case .punchingIsBelievedToBeGuests, .stoppedGoOnEarly: .init(mayKill: false, diesOften: true, pinsAlways: true)
    case .poisonIsForgotten, .healingIsForgotten:
      .init(corruptsPerMille: 300, mayPin: false, mayKill: false, isShared: true, mayDie: true)
    case .halfWrittenSlotsAreTrusted: .init(mayPin: false, mayKill: false, style: .trimming, diesOften: true)
    case .eventsAreClearedLate, .interruptedMovesGoOn, .stagedIsBelievedOverGuest:
      .init(mayPin: false, mayKill: false, style: .crowd, isShared: true, mayDie: true)
    default: .init(mayPin: false, mayKill: false, diesOften: rule == 11 || rule == 14)
    }
  }

  package var rule: Int? { Int(rawValue.dropFirst("rule ".count).prefix { $0 != ":" }) }
}
