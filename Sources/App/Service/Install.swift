internal import Adapters

/// `swap-monitor install`.
enum Install {
  private typealias NamedFile = (path: String, mode: UInt32, bytes: [UInt8])

  static func run(_ arguments: Arguments) throws {
    let prefix = try directory("prefix", of: arguments) ?? "/usr/local"
    let root = try directory("root", of: arguments) ?? ""
    var results: [(path: String, result: String)] = []
    for file in try files(prefix: prefix) {
      let path = root + file.path
      results.append((path, try handle(file, at: path, arguments)))
    }
    if arguments.has("json") { return printJSON(results) }
    let width = results.map(\.result.count).max() ?? 0
    for (path, result) in results { Console.write("\(Table.padded(result, width))  \(path)\n") }
    if !arguments.has("dry-run") && root.isEmpty { Console.write("\n" + advice(arguments.has("uninstall"))) }
    if File.needsSwiftLibraries && !arguments.has("uninstall") {
      Console.writeError(
        "warning: this program needs the Swift toolchain's libraries where they are now; build it with "
          + "'swift build -c release --static-swift-stdlib'\n")
    }
  }

  /// - Returns: what was done, or would be.
  private static func handle(_ file: NamedFile, at path: String, _ arguments: Arguments) throws(CommandFailure)
    -> String
  {
    let isTrial = arguments.has("dry-run")
    do throws(SystemError) {
      if arguments.has("uninstall") {
        guard File.isThere(path) else { return "was not there" }
        if !isTrial { try File.remove(path) }
        return isTrial ? "would remove" : "removed"
      }
      if File.isThere(path, with: file.bytes, mode: file.mode) { return "unchanged" }
      if !isTrial { try File.replace(path, with: file.bytes, mode: file.mode) }
      return isTrial ? "would write" : "wrote"
    } catch {
      throw CommandFailure(message: "\(error). Run it as root, or choose another place with --prefix or --root")
    }
  }

  private static func directory(_ option: String, of arguments: Arguments) throws(UsageError) -> String? {
    guard var path = arguments.value(option) else { return nil }
    while path.count > 1, path.hasSuffix("/") { path.removeLast() }
    // The prefix becomes part of the units.
    let isRight = option == "root" ? !path.isEmpty : path.hasPrefix("/") && !path.contains { $0 <= " " || $0 == "%" }
    guard isRight else {
      throw UsageError(message: "--\(option): \"\(path)\"; an absolute path is right, without spaces")
    }
    return path == "/" ? "" : path
  }

  private static func files(prefix: String) throws(CommandFailure) -> [NamedFile] {
    guard let program = File.ownProgram() else {
      throw CommandFailure(message: "this program's own file can't be read")
    }
    // Where systemd and udev look.
    let library = ["/usr", "/usr/local"].contains(prefix) ? "\(prefix)/lib" : "/etc"
    let path = "\(prefix)/bin/swap-monitor"
    let share = "\(prefix)/share"
    let texts = [
      ("\(library)/systemd/system/swap-monitor.service", ServiceFiles.service(program: path)),
      ("\(library)/systemd/system/swap-monitor.socket", ServiceFiles.socket),
      ("\(library)/udev/rules.d/60-swap-monitor.rules", ServiceFiles.udevRule),
      ("\(share)/man/man8/swap-monitor.8", ManualPage.text),
      ("\(share)/bash-completion/completions/swap-monitor", Completions.bash),
      ("\(share)/zsh/site-functions/_swap-monitor", Completions.zsh),
      ("\(share)/fish/vendor_completions.d/swap-monitor.fish", Completions.fish),
    ]
    return [(path, 0o755, program)] + texts.map { ($0, 0o644, Array($1.utf8)) }
  }

  private static func advice(_ isGone: Bool) -> String {
    isGone
      ? "Next: systemctl daemon-reload\n"
      : """
      Next, as root:
        systemctl daemon-reload
        udevadm control --reload && udevadm trigger /dev/userfaultfd
        systemctl enable --now swap-monitor.socket       # starts the service with the first who connects
        systemctl reload swap-monitor                    # where an earlier one runs: goes on with this program
      'swap-monitor demo' shows that all works; man swap-monitor tells more.

      """
  }

  private static func printJSON(_ results: [(path: String, result: String)]) {
    let files = results.map { ["path": .string($0.path), "result": .string($0.result)] as JSONValue }
    ClientCommands.printJSON(["ok": true, "files": .array(files)])
  }
}
