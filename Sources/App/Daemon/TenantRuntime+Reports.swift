internal import Adapters
internal import Domain

/// What jobs have to say, to clients and to the log.
extension TenantRuntime {
  func stopWarnings() -> [String] {
    memory.ports.freezer.stoppedAgain().map {
      "process \($0.pid) (\($0.name)) was let go on, and has been stopped again, perhaps by the shell of its terminal: 'fg' "
        + "there, or kill -CONT, lets it go on. \"freeze\": \"live\" stops nobody"
    }
  }

  static func warnings(of enable: EnableJob<LinuxPorts>) -> [String] {
    enable.strangeMappings.map {
      $0.isGuess
        ? "process \($0.process) (\($0.name)) holds its memory lock and can't be looked into: whether it maps the memory is not "
          + "known"
        : "process \($0.process) (\($0.name)) maps the memory, and is none of the tenant's processes there: what it touches while "
          + "pages are out reads as zeros, for everybody. It should add-process, or unmap it"
    }
  }

  func report(_ out: OutJob<LinuxPorts>) {
    if out.movedPages > 0 {
      let moved = out.movedPages.counted("page")
      log.info("tenant \(name): out has moved \(moved) more, which enable had left for want of memory")
    }
    if let obstacle = out.obstacle {
      log.warning("tenant \(name): what enable had left stays resident: \(ProtocolError(obstacle).message)")
    }
  }

  func reportUnreadable() {
    var position = PageIndex(0)
    for _ in 0..<Self.namedPages {
      guard let page = memory.ledger.nextUnreadable(from: position) else { return }
      log.error("tenant \(name): \(text(page)) can't be read back right from the swap file, and stays monitored")
      position = page + 1
    }
  }

  /// Of those that `disable` could not bring back.
  private static let namedPages = 10

  /// For people: where a page is.
  func text(_ page: PageIndex) -> String {
    let (map, number) = (memory.map, memory.map.regionIndex(of: page))
    let offset = map.geometry.bytes(inPages: map.regions[number].pages.lowerBound.distance(to: page))
    return "the page at offset 0x\(String(offset, radix: 16)) of region \(number)"
  }
}
