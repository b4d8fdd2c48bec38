internal import Adapters
internal import Domain

/// The benchmark's tenant, and its memory for bare loops.
struct BenchGuest {
  let tenant: PatternGuest
  let bare: BareMemory
  private let zeroRun: Int
  var name: String { tenant.name }
  var pageCount: Int { tenant.pageCount }

  private static let seed: UInt64 = 0xABCD

  init(
    named name: String, _ stage: Stage, pageCount: Int, zeroRun: Int, advice: PatternMemory.Advice,
    geometry: PageGeometry
  ) throws {
    let tenant = try PatternGuest(
      named: name, stage, pageCount: pageCount, ["\(Self.seed)", "\(zeroRun)", advice.rawValue])
    func number(_ key: String) -> Int { tenant.registered[key]?.int ?? 0 }
    bare = try BareMemory(
      of: tenant.handle, userfaultfd: number("userfaultfd"), memory: number("memory"),
      address: UInt64(number("address")), pageCount: pageCount, geometry: geometry)
    self.tenant = tenant
    self.zeroRun = zeroRun
  }

  @discardableResult
  func tell(_ line: String) throws(CommandFailure) -> JSONValue { try tenant.tell(line) }

  // MARK: What its pages are

  /// A page that trim leaves: page p is zero iff splitmix64(seed ^ (p / run)) & 3 == 0.
  var isNotZero: @Sendable (Int) -> Bool { { [zeroRun] in SplitMix.mix(Self.seed ^ UInt64($0 / zeroRun)) & 3 != 0 } }

  var isAny: @Sendable (Int) -> Bool { { _ in true } }

  var notZeroPages: Int { (0..<pageCount).count(where: isNotZero) }

  // MARK: Faults

  /// A bare handler serves what is in bare staging memory meanwhile.
  @discardableResult
  func served<Result>(isBusy: Bool = false, _ body: () throws -> Result) throws -> Result {
    try bare.registered {
      let handler = try BareHandler(bare, isBusy: isBusy)
      defer { handler.stop() }
      return try body()
    }
  }
}
