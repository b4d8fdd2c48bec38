/// Why a command has failed, in words.
struct CommandFailure: Error {
  let message: String
  /// The report that tells of it, with --json.
  let report: JSONValue?

  init(_ message: String, report: JSONValue? = nil) {
    self.message = message
    self.report = report
  }
}
