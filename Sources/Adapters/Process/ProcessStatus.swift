/// The fields of /proc/PID/status (proc_pid_status(5)); none where it can't be read.
struct ProcessStatus {
  private let fields: [Substring: String]

  init(pid: Int32) {
    var fields: [Substring: String] = [:]
    for line in (ProcessFiles(pid: pid).text("status") ?? "").split(separator: "\n") {
      guard let colon = line.firstIndex(of: ":") else { continue }
      fields[line[..<colon]] = String(line[line.index(after: colon)...].drop { $0 == "\t" || $0 == " " })
    }
    self.fields = fields
  }

  subscript(name: String) -> String? { fields[name[...]] }
}
