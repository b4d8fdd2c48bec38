/// Which bytes of which files are given to which tenant: the same bytes can't be given twice.
package struct FileClaims: Sendable {
  private struct Claim {
    let tenant: String
    let bytes: Range<UInt64>
  }
  private var claims: [FileIdentity: [Claim]] = [:]

  package init() {}

  /// - Throws: `RegionError.overlap`, and then nothing is claimed.
  package mutating func claim(_ requests: [RegionRequest], files: [GuestFile], tenant: String) throws(RegionError) {
    for (number, request) in requests.enumerated() {
      let bytes = request.offset..<(request.offset + request.size)
      if claims[files[request.file].identity]?.contains(where: { $0.bytes.overlaps(bytes) }) == true {
        throw .overlap(
          "regions[\(number)]: bytes \(bytes.lowerBound)..<\(bytes.upperBound) of memfd \(request.file) belong to another "
            + "tenant already")
      }
    }
    for request in requests {
      claims[files[request.file].identity, default: []].append(
        Claim(tenant: tenant, bytes: request.offset..<(request.offset + request.size)))
    }
  }

  package mutating func release(tenant: String) {
    for identity in Array(claims.keys) {
      claims[identity]?.removeAll { $0.tenant == tenant }
      if claims[identity]?.isEmpty == true { claims[identity] = nil }
    }
  }
}
