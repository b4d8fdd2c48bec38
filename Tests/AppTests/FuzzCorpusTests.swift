import Glibc
import Testing

@testable import Adapters

/// Replays what the fuzzer (Tests/Fuzz/run) has found worth keeping.
struct FuzzCorpusTests {
  @Test(arguments: ["requests", "events"]) func `no input of the corpus crashes what decodes it`(_ name: String) throws
  {
    let directory = #filePath.split(separator: "/").dropLast().reduce("") { "\($0)/\($1)" } + "/Corpus/\(name)"
    let listing = try #require(opendir(directory))
    defer { closedir(listing) }
    var count = 0
    while let entry = readdir(listing) {
      let file = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
      guard !file.hasPrefix(".") else { continue }
      let bytes = try #require(readBytes("\(directory)/\(file)"))
      // Cut short, too.
      for end in Set([bytes.count, bytes.count / 2, max(0, bytes.count - 1)]) {
        let input = Array(bytes[..<end])
        if name == "requests" { FuzzTargets.request(input) } else { FuzzTargets.events(input) }
      }
      count += 1
    }
    #expect(count > 10)
  }
}
