internal import Domain
internal import FoundationEssentials

/// A decoded request.
enum Request {
  case register(RegisterRequest)
  case attach(AttachRequest)
  case addProcess(AddProcessRequest)
  case unregister(tenant: String?)
  case command(TenantCommand, CommandRequest)
  case status(tenant: String?)
  case list(after: String?)
  case upgrade
}

struct RegisterRequest: Decodable {
  struct RegionField: Codable {
    let address: WholeNumber
    let size: WholeNumber
    let memfd: Int
    let offset: WholeNumber

    var request: RegionRequest {
      RegionRequest(address: address.value, size: size.value, file: memfd, offset: offset.value)
    }
  }

  let `protocol`: Int
  let tenant: String
  let freeze: String?
  let regions: [RegionField]
}

/// Of a process that does not know of us.
struct AttachRequest: Decodable {
  let pid: Int
  let tenant: String?
  let freeze: String?
  /// The path of its QEMU monitor.
  let qmp: String?
  /// What to take, by name or address; nil for all that can be.
  let regions: [String]?
  private let dryRun: Bool?

  /// Nothing is changed: only what would be is told.
  var isTrial: Bool { dryRun == true }

  enum CodingKeys: String, CodingKey {
    case pid, tenant, freeze, qmp, regions
    case dryRun = "dry_run"
  }
}

/// A number from 0 to 2^64 - 1. (The decoder's own error for one that does not fit does not say where it stands.)
struct WholeNumber: Codable {
  let value: UInt64

  init(_ value: UInt64) { self.value = value }

  init(from decoder: any Decoder) throws {
    do { value = try decoder.singleValueContainer().decode(UInt64.self) } catch {
      throw DecodingError.typeMismatch(
        UInt64.self, DecodingError.Context(codingPath: decoder.codingPath, debugDescription: "not a whole number"))
    }
  }

  func encode(to encoder: any Encoder) throws { try value.encode(to: encoder) }
}

struct AddProcessRequest: Decodable {
  let tenant: String?
  let addresses: [WholeNumber]?
}

struct CommandRequest: Decodable {
  let tenant: String?
  let wait: Bool?
  private let slowFileCleanup: Bool?
  private let acceptsKernelAccess: Bool?
  private let acceptsStrangeMappings: Bool?

  var options: TenantRuntime.JobOptions {
    var options = TenantRuntime.JobOptions(cleansUpGradually: slowFileCleanup == true)
    if acceptsKernelAccess == true { options.accepts.insert(.kernelAccess) }
    if acceptsStrangeMappings == true { options.accepts.insert(.strangeMappings) }
    return options
  }

  enum CodingKeys: String, CodingKey {
    case tenant, wait
    case slowFileCleanup = "slow_file_cleanup"
    case acceptsKernelAccess = "accept_dma_risk"
    case acceptsStrangeMappings = "accept_strange_mappings"
  }
}

/// A packet's meaning: the `id` to repeat, and the request or what is wrong with it.
struct DecodedRequest {
  /// As it stands in the request.
  let id: [UInt8]?
  let request: Result<Request, ProtocolError>

  /// The longest `id` that is repeated, in bytes of JSON.
  static let longestIdentifier = 1024

  private struct Envelope: Decodable { let op: String }

  private struct Tenant: Decodable { let tenant: String? }
  private struct After: Decodable { let after: String? }

  init(_ bytes: [UInt8]) {
    var id: [UInt8]?
    do throws(ProtocolError) {
      guard !bytes.isEmpty else {
        throw ProtocolError(.invalidRequest, "an empty packet; a request is one JSON object")
      }
      guard !bytes.contains(0), bytes.first != 0xEF, String(validating: bytes, as: UTF8.self) != nil else {
        throw ProtocolError(.invalidRequest, "the packet is not JSON in UTF-8")
      }
      if let given = JSONText.member("id", of: bytes) {
        guard given.count <= Self.longestIdentifier else {
          throw ProtocolError(
            .invalidRequest, "id: \(given.count) bytes of JSON, and at most \(Self.longestIdentifier) can be repeated")
        }
        // The decoder looks at what it decodes, and reads over the rest: a string with a line's end in it, say.
        guard JSONText.isValue(given) else { throw ProtocolError(.invalidRequest, Self.notJSON) }
        id = Array(given)
      }
      request = .success(try Self.request(in: bytes))
    } catch {
      request = .failure(error)
      // What is not JSON is not repeated.
      if error.message == Self.notJSON { id = nil }
    }
    self.id = id
  }

  private static let notJSON = "the packet is not JSON"

  private static func request(in bytes: [UInt8]) throws(ProtocolError) -> Request {
    let op = try decode(Envelope.self, bytes).op
    switch op {
    case "register":
      struct Version: Decodable { let `protocol`: Int }
      let version = try decode(Version.self, bytes).protocol
      guard version == 1 else {
        throw ProtocolError(.unsupportedProtocol, "protocol: \(version); this daemon speaks version 1")
      }
      return .register(try decode(RegisterRequest.self, bytes))
    case "unregister": return .unregister(tenant: try decode(Tenant.self, bytes).tenant)
    case "enable", "trim", "out", "disable":
      guard let command = TenantCommand(rawValue: op) else { break }
      return .command(command, try decode(CommandRequest.self, bytes))
    case "status": return .status(tenant: try decode(Tenant.self, bytes).tenant)
    case "add-process": return .addProcess(try decode(AddProcessRequest.self, bytes))
    case "attach": return .attach(try decode(AttachRequest.self, bytes))
    case "upgrade": return .upgrade
    case "list": return .list(after: try decode(After.self, bytes).after)
    default: break
    }
    throw ProtocolError(
      .invalidRequest,
      "op: \"\(op.shortened)\" is not known; register, attach, add-process, unregister, enable, trim, out, disable, status and list are"
    )
  }

  private static func decode<Body: Decodable>(_ type: Body.Type, _ bytes: [UInt8]) throws(ProtocolError) -> Body {
    do { return try JSONDecoder().decode(type, from: Data(bytes)) } catch let error as DecodingError {
      throw ProtocolError(.invalidRequest, describe(error))
    } catch { throw ProtocolError(.invalidRequest, "not a JSON object: \(error)") }
  }

  private static func describe(_ error: DecodingError) -> String {
    func path(_ keys: [any CodingKey]) -> String {
      var text = ""
      for key in keys {
        if let index = key.intValue {
          text += "[\(index)]"
        } else {
          text += (text.isEmpty ? "" : ".") + key.stringValue
        }
      }
      return text
    }
    switch error {
    case .keyNotFound(let key, let context): return "\(path(context.codingPath + [key])): is missing"
    case .valueNotFound(_, let context): return "\(path(context.codingPath)): is null, and a value is needed"
    case .typeMismatch(let type, let context):
      let name = path(context.codingPath)
      return name.isEmpty
        ? "the packet is not a JSON object" : "\(name): is of the wrong type; \(typeName(type)) is right"
    case .dataCorrupted(let context):
      let name = path(context.codingPath)
      return name.isEmpty
        ? notJSON : "\(name): is out of range or malformed (\(context.debugDescription))"
    @unknown default: return "the request can't be decoded"
    }
  }

  private static func typeName(_ type: any Any.Type) -> String {
    switch "\(type)" {
    case "UInt64": "a whole number, not negative"
    case "Int": "a whole number"
    case "String": "a string"
    case "Bool": "true or false"
    case let name where name.hasPrefix("Array"): "an array"
    case let name where name.hasPrefix("Dictionary"): "an object"
    case let name: name
    }
  }
}
