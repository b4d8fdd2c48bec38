import Testing

@testable import Adapters
@testable import App
@testable import Domain

/// Decoding of requests, without a daemon.
struct RequestTests {
  private func failure(_ text: String) -> ProtocolError? {
    if case .failure(let error) = DecodedRequest(Array(text.utf8)).request { return error }
    return nil
  }

  @Test(arguments: [
    ("", "an empty packet"), ("{", "not JSON"), ("[]", "not a JSON object"), ("1", "not a JSON object"),
    ("{}", "op: is missing"), (#"{"op":7}"#, "op: is of the wrong type; a string"),
    (#"{"op":"fly"}"#, "op: \"fly\" is not known"),
    (#"{"op":"status","tenant":1}"#, "tenant: is of the wrong type; a string"),
    (#"{"op":"trim","tenant":"a","wait":"yes"}"#, "wait: is of the wrong type; true or false"),
    (
      #"{"op":"register","protocol":1,"tenant":"a","regions":[{"address":"x","size":1,"memfd":0,"offset":0}]}"#,
      "regions[0].address: is of the wrong type; a whole number"
    ),
    (
      #"{"op":"register","protocol":1,"tenant":"a","regions":[{"address":4096,"memfd":0,"offset":0}]}"#,
      "regions[0].size: is missing"
    ),
    (
      #"{"op":"register","protocol":1,"tenant":"a","regions":[{"address":-4096,"size":1,"memfd":0,"offset":0}]}"#,
      "regions[0].address"
    ),
    ("\u{FEFF}\u{0}", "not JSON"),
  ])
  func `a bad request is refused by field and value`(_ text: String, _ words: String) throws {
    let error = try #require(failure(text), "\(text) was accepted")
    #expect(error.code == .invalidRequest)
    #expect(error.message.contains(words), "\(error.message)")
  }

  @Test func `another protocol version is refused before its fields are looked at`() {
    #expect(failure(#"{"op":"register","protocol":2,"what":"ever"}"#)?.code == .unsupportedProtocol)
  }

  @Test func `unknown fields are ignored`() throws {
    let decoded = DecodedRequest(Array(#"{"op":"status","tenant":"a","colour":"green","id":[1,"x",null]}"#.utf8))
    guard case .success(.status(let tenant)) = decoded.request else { throw Complaint("refused") }
    #expect(tenant == "a")
    #expect(decoded.id == Array(#"[1,"x",null]"#.utf8))
  }

  @Test func `an id is repeated up to its limit, also by a refusal`() {
    let longest = String(repeating: "x", count: DecodedRequest.longestIdentifier - 2)
    #expect(DecodedRequest(Array(#"{"op":"fly","id":"\#(longest)"}"#.utf8)).id == Array("\"\(longest)\"".utf8))
    let tooLong = DecodedRequest(Array(#"{"op":"list","id":"\#(longest)x"}"#.utf8))
    #expect(tooLong.id == nil)
    guard case .failure(let error) = tooLong.request else {
      Issue.record("an id of 1,025 bytes was accepted")
      return
    }
    #expect(error.message.contains("1024"))
  }

  @Test func `a request nested too deeply is refused, and crashes nothing`() {
    let depth = 30_000  // under half a packet
    let text =
      #"{"op":"list","id":"# + String(repeating: "[", count: depth) + String(repeating: "]", count: depth) + "}"
    #expect(failure(text)?.code == .invalidRequest)
  }

  @Test(arguments: [
    "18446744073709551615", "-9223372036854775808", "1.5", "1e400", "[-1E+4000,\"1e5\"]", "12345678901234567890123",
    "true", "null",
    #""é\n\u0000""#, #"{"a":{}, "b": "}"}"#, #"[[]  ,"\"]"]"#,
  ])
  func `ids of any kind come back as they were`(_ text: String) throws {
    #expect(DecodedRequest(Array(#" { "id" : \#(text) , "op":"list"}"#.utf8)).id == Array(text.utf8))
    #expect(DecodedRequest(Array(#"{"op":"list","x":["id",{"id":0}],"id":\#(text)}"#.utf8)).id == Array(text.utf8))
  }

  @Test(arguments: ["\"i\n\"", #""\q""#, "1-2", "01", "1e", "[1,]", "1e+", "tru", "[\"\u{1}\"]"])
  func `what is no JSON is not repeated`(_ text: String) {
    let decoded = DecodedRequest(Array(#"{"op":"list","id":\#(text)}"#.utf8))
    #expect(decoded.id == nil, "\(text)")
    guard case .failure(let error) = decoded.request else {
      Issue.record("\(text) was accepted")
      return
    }
    #expect(error.code == .invalidRequest)
  }

  @Test func `what is not JSON in UTF-8 is refused`() {
    for bytes in [
      Array(#"{"op":"list"}"#.utf16.flatMap { [UInt8($0 & 255), UInt8($0 >> 8)] }),
      [0xEF, 0xBB, 0xBF] + Array("{}".utf8),
      Array(#"{"op":"li"#.utf8) + [0xFF] + Array(#"st"}"#.utf8),
    ] {
      guard case .failure(let error) = DecodedRequest(bytes).request else {
        Issue.record("accepted")
        continue
      }
      #expect(error.code == .invalidRequest)
    }
  }
}

struct CommandLineTests {
  @Test(
    arguments: [
      ("0", 0), ("4096", 4096), ("1K", 1024), ("1k", 1024), ("3MiB", 3 << 20), ("2G", 2 << 30), ("1T", 1 << 40),
      ("7B", 7),
    ] as [(String, UInt64)])
  func `sizes are read`(_ text: String, _ bytes: UInt64) { #expect(ByteSize.parse(text) == bytes) }

  @Test(arguments: ["", "K", "-1", "1.5G", "1X", "99999999999T", "0x10", " 1"])
  func `what is no size is refused`(_ text: String) { #expect(ByteSize.parse(text) == nil) }

  @Test(
    arguments: [
      (0, "0 B"), (1023, "1023 B"), (1024, "1.00 KiB"), (1536, "1.50 KiB"), (1 << 30, "1.00 GiB"),
      (536_870_912, "512 MiB"),
    ] as [(UInt64, String)])
  func `sizes are shown`(_ bytes: UInt64, _ text: String) { #expect(ByteSize.text(bytes) == text) }

  @Test func `options are read in both ways, and the last one counts`() throws {
    let arguments = try Arguments(
      ["a", "--socket", "x", "--socket=y=z", "--json", "b"], valued: ["socket"], flags: ["json"])
    #expect(arguments.words == ["a", "b"])
    #expect(arguments.value("socket") == "y=z")
    #expect(arguments.has("json"))
  }

  @Test(arguments: [["--nope"], ["-x"], ["--socket"], ["--json=1"]])
  func `a wrong option is a usage error`(_ words: [String]) {
    #expect(throws: UsageError.self) { try Arguments(words, valued: ["socket"], flags: ["json"]) }
  }

  @Test(
    arguments: [
      ([], 2), (["fly"], 2), (["enable"], 2), (["enable", "a", "b"], 2), (["serve", "--log-level", "loud"], 2),
      (["serve", "--socket-mode", "9"], 2), (["demo", "--memory", "much"], 2), (["demo", "--memory", "1K"], 2),
      (["serve", "--socket-group", "no such group"], 2), (["bench", "--only", ""], 2),
      (["bench", "--plot", "/nonexistent/plot.svg"], 1), (["attach", "1", "--qmp", "/x", "--freeze", "live"], 2),
      (["list", "--socket", "/nonexistent/socket"], 1), (["--version"], 0), (["--help"], 0), (["serve", "--help"], 0),
      (["trim", "--help"], 0),
    ] as [([String], Int32)])
  func `exit codes`(_ words: [String], _ code: Int32) throws {
    let child = try ChildProcess(executable: program, arguments: words, keepsErrors: false)
    #expect(child.end() == code)
  }
}
