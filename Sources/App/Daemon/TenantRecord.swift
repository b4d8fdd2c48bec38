internal import Adapters
internal import Domain
internal import FoundationEssentials

/// What a worker writes down of a tenant for the next one, besides its descriptors.
struct TenantRecord: Codable, Equatable {
  struct PlacedRegion: Codable, Equatable {
    let address: UInt64
    let size: UInt64
    let file: Int
    let offset: UInt64
  }

  /// How the job of a number ended.
  struct Result: Codable, Equatable {
    let serial: UInt64
    let isAborted: Bool
    let error: ProtocolError?
  }

  var name: String
  var user: UInt32
  /// The token of the connection that registered it.
  var connection: UInt64
  var attachment: Attachment?
  var freeze: String
  var regions: [PlacedRegion]
  /// The life cycle: the state, or the one before the running job.
  var state: String
  var job: String?
  /// Jobs are numbered, so that a request can tell which one it waits for.
  var jobSerial: UInt64
  var options: TenantRuntime.JobOptions
  var lastJob: String?
  var lastResult: Result?
  var failure: ProtocolError?
  var warnings: [String]
  var isLeaving: Bool

  var bytes: [UInt8] { encoded(self) }

  init?(_ bytes: [UInt8]) {
    guard let record = decoded(TenantRecord.self, bytes) else { return nil }
    self = record
  }

  init(_ tenant: Tenant) {
    name = tenant.name
    user = tenant.user
    connection = tenant.connection
    attachment = tenant.attachment
    freeze = tenant.freeze.rawValue
    regions = tenant.runtime.memory.map.regions.map { region in
      let geometry = tenant.runtime.memory.map.geometry
      return PlacedRegion(
        address: region.address, size: UInt64(geometry.bytes(inPages: region.pages.count)), file: region.file,
        offset: UInt64(geometry.bytes(inPages: region.firstFilePage)))
    }
    state = tenant.lifecycle.settled.rawValue
    job = tenant.lifecycle.job?.rawValue
    jobSerial = tenant.jobSerial
    options = tenant.options
    lastJob = tenant.lastJob?.rawValue
    lastResult = tenant.lastResult
    failure = tenant.failure
    warnings = tenant.warnings
    isLeaving = tenant.isLeaving
  }

  var requests: [RegionRequest] {
    regions.map { RegionRequest(address: $0.address, size: $0.size, file: $0.file, offset: $0.offset) }
  }

  var lifecycle: Lifecycle? {
    guard let state = TenantState(rawValue: state) else { return nil }
    let job = job.flatMap { TenantJob(rawValue: $0) }
    var lifecycle = Lifecycle(settled: state, interrupted: job)
    if let job { lifecycle.started(job) }
    return lifecycle
  }
}

/// The same of a process.
struct ProcessRecord: Codable, Equatable {
  struct Part: Codable, Equatable {
    let address: UInt64
    let firstPage: Int
    let pageCount: Int
  }

  let isForked: Bool
  let parts: [Part]

  var bytes: [UInt8] { encoded(self) }

  init?(_ bytes: [UInt8]) {
    guard let record = decoded(ProcessRecord.self, bytes) else { return nil }
    self = record
  }

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

private func encoded(_ value: some Encodable) -> [UInt8] {
  do { return Array(try JSONEncoder().encode(value)) } catch {
    preconditionFailure("a record can't be encoded: \(error)")
  }
}

private func decoded<Value: Decodable>(_ type: Value.Type, _ bytes: [UInt8]) -> Value? {
  do { return try JSONDecoder().decode(type, from: Data(bytes)) } catch { return nil }
}
