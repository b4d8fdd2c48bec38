import Glibc
import Testing

@testable import Adapters
@testable import App
@testable import Domain

/// Whether this machine gives userfaultfds; says loudly when it does not.
let hasUserfaultfd: Bool = {
  do throws(SystemError) {
    _ = try Userfaultfd.create()
    return true
  } catch {
    Console.writeError("\n*** SKIPPED: no userfaultfd here (\(error)); the daemon's end-to-end tests do not run ***\n")
    return false
  }
}()

let isRoot = geteuid() == 0

/// The program under test: beside the test bundle, or of another build.
let program = "\(buildDirectory)/swap-monitor"

let namedBuild = getenv("SWAP_MONITOR_BUILD").map { String(cString: $0) }

let buildDirectory: String = {
  if let namedBuild { return namedBuild }
  var path = [CChar](repeating: 0, count: 4096)
  let count = readlink("/proc/self/exe", &path, path.count)
  let text = String(decoding: path[0..<max(0, count)].map { UInt8(bitPattern: $0) }, as: UTF8.self)
  return text.split(separator: "/").dropLast().reduce("") { "\($0)/\($1)" }
}()

/// The real daemon, in a process of its own, with a directory of its own.
final class Daemon {
  let directory: String
  let process: ChildProcess
  var socketPath: String { "\(directory)/run/socket" }
  var swapDirectory: String { "\(directory)/swap" }

  /// - Parameter group: it runs in there from the start.
  init(
    _ options: [String] = [], swapDirectory: String? = nil, environment: [String] = [], group: LimitedGroup? = nil,
    executable: String = program
  ) throws {
    directory = try Directory.makeTemporary()
    let words =
      [
        "serve", "--end-with-parent", "--log-level", "error", "--keep-free", "0", "--socket", "\(directory)/run/socket",
        "--swap-dir", swapDirectory ?? "\(directory)/swap",
      ] + options
    let started = group.map { ["/bin/sh"] + $0.joining([executable] + words) } ?? [executable] + words
    process = try ChildProcess(
      executable: "/bin/sh", arguments: ["-c", #"exec "$@" 2>"$0""#, "\(directory)/log"] + started, keepsErrors: true,
      environment: environment)
    try eventually("the daemon listens") { (try? Client(path: socketPath)) != nil }
  }

  deinit {
    process.end(signal: SIGKILL)
    let log = readText("\(directory)/log", limit: 16 << 20) ?? ""
    Console.writeError(log)
    // Who traps is followed by another, and nobody else may notice. (Tests kill by signal 9.)
    for line in log.split(separator: "\n")
    where line.contains("Program crashed") || line.contains("Backtracing from")
      || line.contains(" was killed by signal ") && !line.contains(" by signal 9;")
      || line.contains(" has ended with exit code ") && !log.contains("the attendant is dead")
    { Issue.record("the daemon's log says: \(line)") }
    for path in ["log", "run/socket", "run", "swap", ""] where unlink("\(directory)/\(path)") != 0 {
      rmdir("\(directory)/\(path)")
    }
  }

  func client() throws -> Client { try Client(path: socketPath) }

  func status(_ tenant: String) throws -> JSONValue { try client().ask(["op": "status", "tenant": .string(tenant)]) }

  func state(_ tenant: String) throws -> String? { try status(tenant)["state"]?.text }

  /// Its open descriptors, once nothing comes or goes any more.
  func settledDescriptorCount() throws -> Int {
    _ = try client().list()  // answered by a worker that has opened all that it needs
    var counts: [Int] = []
    try eventually("the daemon comes to rest") {
      counts.append(descriptorCount)
      return counts.count >= 10 && Set(counts.suffix(10)).count == 1
    }
    return descriptorCount
  }

  /// The keeper's child that does the work.
  var worker: Int32 { get throws { try child("worker") } }

  /// The one that does for it what takes privilege.
  var attendant: Int32 { get throws { try child("attendant") } }

  private func child(_ command: String) throws -> Int32 {
    var found: Int32?
    try eventually("there is a child that runs \(command)") {
      found = children(of: process.handle.pid, running: command).first
      return found != nil
    }
    return try #require(found)
  }

  /// The open descriptors of keeper and worker.
  var descriptorCount: Int {
    [process.handle.pid, (try? worker) ?? -1].reduce(0) {
      $0 + (numberedEntries(of: "/proc/\($1)/fd")?.count ?? -10_000)
    }
  }
}

/// A process's children whose first argument is that.
func children(of pid: Int32, running command: String) -> [Int32] {
  children(of: pid).filter { child in
    let words = (readText("/proc/\(child)/cmdline") ?? "").split(separator: "\0")
    return words.count > 1 && words[1] == command
  }
}

/// The demo's tenant, driven line by line: a process of its own.
final class TenantProcess {
  static let name = Demo.tenantName
  let process: ChildProcess

  /// - Parameter group: it takes its memory in there from the start.
  init(_ daemon: Daemon, pages: Int, seed: UInt64 = 7, group: LimitedGroup? = nil) throws {
    let words = [PatternTenant.command, daemon.socketPath, Self.name, "\(pages)", "\(seed)"]
    process = try ChildProcess(
      executable: group == nil ? program : "/bin/sh", arguments: group?.joining([program] + words) ?? words,
      keepsErrors: true,
      environment: ["SWIFT_BACKTRACE=enable=no"])  // one test has it die of SIGBUS
    _ = try answer("registered")
  }

  deinit { process.end(signal: SIGKILL) }

  func answer(_ key: String) throws -> JSONValue {
    while let line = process.readLine() {
      if let answer = JSONValue.parse(Array(line.utf8)), answer[key] != nil { return answer }
    }
    throw Complaint("the tenant process ended before it said \(key)")
  }

  func mismatches() throws -> Int? {
    process.writeLine("verify")
    return try answer("mismatches")["mismatches"]?.int
  }
}

/// Memory of the test process itself, which can be a tenant too: under "caller" it is not stopped.
final class OwnTenant {
  let memory: PatternMemory
  let userfaultfd: Descriptor
  let client: Client
  let name: String
  let geometry: PageGeometry

  convenience init(_ daemon: Daemon, name: String = "own", pages: Int = 256, registers: Bool = true) throws {
    try self.init(socketPath: daemon.socketPath, name: name, pages: pages, registers: registers)
  }

  init(socketPath: String, name: String = "own", pages: Int = 256, registers: Bool = true) throws {
    geometry = try #require(Machine.pageGeometry())
    memory = try PatternMemory(pageCount: pages, geometry: geometry, seed: 11)
    memory.fill(0..<pages)
    userfaultfd = try Userfaultfd.create().descriptor
    client = try Client(path: socketPath)
    self.name = name
    if registers { _ = try client.ask(request(), descriptors: [userfaultfd, memory.file]) }
  }

  var bytes: UInt64 { UInt64(geometry.bytes(inPages: memory.pageCount)) }

  /// A right request; tests bend it.
  func request(_ changes: [String: JSONValue] = [:], region: [String: JSONValue] = [:]) -> [String: JSONValue] {
    var fields: [String: JSONValue] = [
      "address": .unsigned(memory.address), "size": .unsigned(bytes), "memfd": 0, "offset": 0,
    ]
    fields.merge(region) { _, new in new }
    var request: [String: JSONValue] = [
      "op": "register", "protocol": 1, "tenant": .string(name), "freeze": "caller", "regions": [.object(fields)],
    ]
    request.merge(changes) { _, new in new }
    return request
  }

  func ask(_ op: String, _ more: [String: JSONValue] = [:]) throws -> JSONValue {
    try client.ask(["op": .string(op), "wait": true].merging(more) { _, new in new })
  }
}

struct Complaint: Error, CustomStringConvertible {
  let description: String
  init(_ description: String) { self.description = description }
}

/// Waits for something that happens soon, by itself.
func eventually(_ what: String, limitSeconds: Int = 60, _ condition: () throws -> Bool) throws {
  for _ in 0..<(limitSeconds * 200) {
    if try condition() { return }
    usleep(5000)
  }
  throw Complaint("it did not come to pass that \(what)")
}

/// Everything that a program writes, and its exit code.
func output(_ words: [String], environment: [String] = []) throws -> (text: String, code: Int32?) {
  let child = try merged(words, environment: environment)
  var text = ""
  while let line = child.readLine() { text += line + "\n" }
  return (text, child.end())
}

/// A program whose standard error goes where its standard output goes.
func merged(_ words: [String], environment: [String] = []) throws -> ChildProcess {
  try ChildProcess(
    executable: "/bin/sh", arguments: ["-c", #"exec "$@" 2>&1"#, "sh"] + words, keepsErrors: true,
    environment: environment)
}

/// What one of our commands reports with --json, with a swap directory of its own unless it is given one; and its exit code.
func report(_ words: [String], swapDirectory: String? = nil) throws -> (JSONValue, Int32?) {
  let directory = try Directory.makeTemporary()
  defer { rmdir(directory) }
  let child = try ChildProcess(
    executable: program, arguments: words + ["--json", "--swap-dir", swapDirectory ?? directory], keepsErrors: true)
  return (JSONValue.parse(Array((child.readLine() ?? "").utf8)) ?? .null, child.end())
}

func children(of pid: Int32) -> [Int32] {
  readText("/proc/\(pid)/task/\(pid)/children")?.split(separator: " ").compactMap { Int32($0) } ?? []
}

/// The code of a refused request.
func code(_ reply: JSONValue) -> String? { reply["error"]?["code"]?.text }
