import Glibc
import Testing

/// Rules about the source text that the compiler does not check.
@Suite struct ArchitectureTests {
  static let domain = #filePath.split(separator: "/").dropLast(3).reduce("") { $0 + "/" + $1 } + "/Sources/Domain"

  @Test("Domain imports nothing at all")
  func domainImportsNothing() throws {
    let files = Self.swiftFiles(under: Self.domain)
    try #require(
      files.contains { $0.hasSuffix("/PageBitmap.swift") }, "the sources were not found under \(Self.domain)")
    for file in files {
      let text = try #require(Self.contents(of: file), "\(file) can't be read")
      for (number, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
        let isImport = Self.isImport(line)
        #expect(!isImport, "\(file):\(number + 1): \(line)")
      }
    }
  }

  /// The scan itself, so that the test above can be believed.
  @Test(
    "imports are recognised in every form",
    arguments: [
      ("import Glibc", true), ("  internal import struct Glibc.timespec", true), ("@testable import App", true),
      ("@_exported package import Adapters", true), ("public import\tA", true), ("// import Glibc", false),
      ("/// what the import needs", false), ("let important = 1", false), ("case `import`", false),
      ("#if canImport(Glibc)", true), ("@_extern(c) func open()", true),
    ])
  func recognisesImports(line: String, isImport: Bool) {
    let found = Self.isImport(line[...])
    #expect(found == isImport)
  }

  /// Also what would reach out of the module without an import.
  static func isImport(_ line: Substring) -> Bool {
    let code = line.firstRange(of: "//").map { line[..<$0.lowerBound] } ?? line
    let words = code.split { $0 == " " || $0 == "\t" }
    return words.contains("import") || code.contains("canImport(") || code.contains("@_extern")
      || code.contains("@_silgen_name")
  }

  static func swiftFiles(under folder: String) -> [String] {
    guard let stream = opendir(folder) else { return [] }
    defer { closedir(stream) }
    var found: [String] = []
    while let entry = readdir(stream) {
      let name = withUnsafeBytes(of: entry.pointee.d_name) { bytes in
        String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
      }
      if name.hasPrefix(".") { continue }
      let path = folder + "/" + name
      if name.hasSuffix(".swift") { found.append(path) } else { found += swiftFiles(under: path) }
    }
    return found.sorted()
  }

  static func contents(of path: String) -> String? {
    guard let file = fopen(path, "r") else { return nil }
    defer { fclose(file) }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    while case let count = fread(&buffer, 1, buffer.count, file), count > 0 { bytes += buffer[..<count] }
    return String(decoding: bytes, as: UTF8.self)
  }
}
