/// What `status` and the commands show of a `status` reply.
enum StatusText {
  /// All faults served since the last `enable`.
  static func faults(_ reply: JSONValue) -> Int {
    ["copied_from_staging_pages", "copied_from_file_pages", "zeroed_pages", "redundant_pages"].reduce(0) {
      $0 + (reply["metrics"]?[$1]?.int ?? 0)
    }
  }

  /// A line a tenant.
  ///
  /// - Parameter rates: faults a second, shown instead of the faults since `enable`.
  static func table(_ replies: [JSONValue], rates: [String: Double]? = nil) -> String {
    if replies.isEmpty { return "no tenants\n" }
    let lastColumn = rates == nil ? "FAULTS" : "FAULTS/S"
    var table = Table(["TENANT", "STATE", "SIZE", "GUEST", "STAGING", "FILE", lastColumn], numbers: Set(2...6))
    for reply in replies {
      let name = reply["tenant"]?.text ?? "?"
      // The state does not tell that `enable` runs.
      let state = (reply["state"]?.text ?? "?") + (reply["operation"] == "enable" ? " (enable)" : "")
      func size(_ key: String) -> String {
        ByteSize.text(UInt64(reply["metrics"]?[key]?.int ?? 0) * UInt64(reply["page_size"]?.int ?? 4096))
      }
      table.add([
        name, state, ByteSize.text(UInt64(reply["size"]?.int ?? 0)), size("resident_pages"), size("staging_pages"),
        size("swap_pages"),
        rates.map { $0[name].map { ByteSize.decimals($0, 0) } ?? "" } ?? "\(faults(reply))",
      ])
    }
    return table.text
  }

  /// Everything of one tenant.
  static func block(_ reply: JSONValue, rate: Double? = nil) -> String {
    let name = reply["tenant"]?.text ?? "?"
    guard let metrics = reply["metrics"] else { return "\(name): \(reply["state"]?.text ?? "done")\n" }
    let pageBytes = UInt64(reply["page_size"]?.int ?? 4096)
    func pages(_ key: String) -> Int { metrics[key]?.int ?? 0 }
    func count(_ key: String) -> String { pages(key).counted("page") }
    func amount(_ key: String) -> String { "\(count(key)) (\(ByteSize.text(UInt64(pages(key)) * pageBytes)))" }
    let operation = reply["operation"]?.text.map { ", \($0) runs" } ?? ""
    let attached = reply["attached"]?.isTrue == true ? " (attached)" : ""
    var text = "\(name)\(attached): \(reply["state"]?.text ?? "?")\(operation)\n"
    text += "  in the guest      \(amount("resident_pages"))\n"
    text += "  in staging        \(amount("staging_pages"))\n"
    text += "  in the swap file  \(amount("swap_pages"))\n"
    if pages("unreadable_pages") > 0 { text += "  unreadable        \(amount("unreadable_pages"))\n" }
    text += "  faults served     \(pages("copied_from_staging_pages")) from staging, "
    text += "\(pages("copied_from_file_pages")) from the file, \(pages("zeroed_pages")) zero, "
    text += "\(pages("redundant_pages")) redundant\n"
    if pages("removed_pages") > 0 { text += "  removed           \(count("removed_pages")) by the tenant\n" }
    if let rate { text += "  faults a second   \(ByteSize.decimals(rate, 0))\n" }
    if let last = reply["state_transition"], let what = reply["operation"]?.text ?? reply["last_operation"]?.text {
      let done = (last["pages"]?.int ?? 0).counted("page")
      text += "  last operation    \(what): \(done) in \(last["time_ms"]?.int ?? 0) ms\n"
    }
    if reply["partial"]?.isTrue == true {
      text += "  partial           enable left pages resident for want of memory\n"
    }
    if let waiting = reply["waiting"]?.text { text += "  waiting           for \(waiting)\n" }
    if let failure = reply["failure"] {
      text += "  failure           \(failure["message"]?.text ?? "?") (\(failure["code"]?.text ?? "?"))\n"
    }
    return text
  }
}
