internal import Adapters
internal import Domain
internal import FoundationEssentials

/// What a worker writes down of a tenant for the next one, besides its descriptors. Part of `Keeper.layoutVersion`.
struct TenantRecord: Codable {
  /// How the job of a number ended.
  struct Result: Codable {
    let serial: UInt64
    let isAborted: Bool
    let error: ProtocolError?
  }

  let name: String
  let user: UInt32
  /// The token of the connection that registered it; 0 for none.
  let connection: UInt64
  /// How it came in, where it did not ask itself.
  let attachment: Attachment?
  let freeze: FreezeMode
  let regions: [RegisterRequest.RegionField]
  /// The life cycle: the state, or the one before the running job.
  var state = TenantState.ready
  var job: TenantJob?
  /// Jobs are numbered, so that a request can tell which one it waits for.
  var jobSerial: UInt64 = 0
  /// Of the running job.
  var options = TenantRuntime.JobOptions()
  var lastJob: TenantJob?
  var lastResult: Result?
  /// Why the last operation failed.
  var failure: ProtocolError?
  /// What the last `enable` had to say.
  var warnings: [String] = []
  /// To be forgotten once everything is back.
  var isLeaving = false
}

extension FreezeMode: Codable {}
extension TenantJob: Codable {}

/// The same of a process.
struct ProcessRecord: Codable {
  struct Part: Codable {
    let address: UInt64
    let firstPage: Int
    let pageCount: Int
  }

  let isForked: Bool
  let parts: [Part]

  init(_ process: UserfaultProcess) {
    isForked = process.isForked
    parts = process.addresses.mapped(PageIndex(0)..<PageIndex(Int.max)).map {
      Part(address: $0.address, firstPage: $0.pages.lowerBound.rawValue, pageCount: $0.pages.count)
    }
  }

  /// Of a child that has only just been forked.
  init(childOf parent: ProcessRecord) {
    isForked = true
    parts = parent.parts
  }

  func addresses(_ map: RegionMap) -> AddressMap {
    AddressMap(
      map,
      parts: parts.map {
        ($0.address, PageIndex($0.firstPage)..<PageIndex($0.firstPage + $0.pageCount))
      })
  }
}

extension KeeperLink {
  func store(record: some Encodable, as key: HeldKey) throws(SystemError) {
    let bytes: Data
    do { bytes = try JSONEncoder().encode(record) } catch { preconditionFailure("a record can't be encoded: \(error)") }
    try store(Array(bytes), as: key)
  }

  /// nil where there is none, or it can't be understood.
  func record<Record: Decodable>(_ type: Record.Type, at key: HeldKey) -> Record? {
    stored(key).flatMap { bytes in attempt { try JSONDecoder().decode(type, from: Data(bytes)) } }
  }
}
