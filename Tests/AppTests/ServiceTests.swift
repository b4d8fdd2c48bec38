import Glibc
import Testing

@testable import Adapters
@testable import App

/// `swap-monitor install`, and that help, manual, completions and the parser agree.
struct ServiceTests {
  private static func path(of name: String) -> String? {
    let places: [String] = ["/usr/bin", "/bin", "/usr/local/bin"]
    let found = places.map { (place: String) -> String in "\(place)/\(name)" }.first { access($0, X_OK) == 0 }
    if found == nil {
      Console.writeError("\n*** SKIPPED: \(name) is not installed; what is made for it is not tried ***\n")
    }
    return found
  }

  /// What is installed below a directory of its own, which `body` is given.
  private func installed(_ body: (String) throws -> Void) throws {
    let root = try Directory.makeTemporary()
    defer { _ = try? output(["rm", "-r", root]) }
    let (text, code) = try output([program, "install", "--root", root])
    #expect(code == 0 && text.contains("wrote  \(root)/usr/local/bin/swap-monitor\n"), "\(text)")
    try body(root)
  }

  // MARK: Options

  @Test(arguments: Command.all) func `help tells what each option does, and all are taken`(
    _ command: Command
  ) throws {
    let options = HelpText(command.help).options
    #expect(options.allSatisfy { !$0.text.isEmpty })
    #expect(Help.main.contains("\n  \(command.name) "), "the list of commands lacks it")
    for option in options {
      let arguments = try Arguments(["--\(option.name)"] + (option.value == nil ? [] : ["value"]), of: command)
      #expect(arguments.has(option.name) && arguments.words.isEmpty)
    }
    #expect(throws: UsageError.self) { try Arguments(["--no-such-option"], of: command) }
  }

  @Test(
    arguments: [
      ("serve", ["socket-mode", "keep-free", "swap-total-limit", "log-level"], ["end-with-parent", "activated"]),
      ("torture", ["seconds", "seed", "canary"], ["live", "no-kill", "stalls", "disk-trouble", "json"]),
      ("bench", ["memory", "zero-run", "compare", "plot"], ["json", "collapse"]),
      ("attach", ["name", "freeze", "qmp", "region"], ["dry-run", "json"]),
      ("enable", ["socket"], ["accept-dma-risk", "accept-strange-mappings", "json", "help"]),
      ("disable", ["socket"], ["no-wait", "slow-file-cleanup"]), ("unregister", ["socket"], ["json"]),
      ("status", ["interval"], ["watch"]), ("install", ["prefix", "root"], ["dry-run", "uninstall"]),
    ] as [(String, [String], [String])])
  func `options are those that the help tells of`(_ command: String, _ valued: [String], _ flags: [String]) throws {
    let options = try #require(Command.named(command)).options
    #expect(options.valued.isSuperset(of: valued) && options.flags.isSuperset(of: flags), "\(options)")
    #expect(options.valued.isDisjoint(with: options.flags))
    #expect(command == "torture" || !options.valued.contains("canary"))
    #expect(command != "unregister" || !options.flags.contains("no-wait"))
  }

  @Test func `the manual has every command and option`() {
    let page = ManualPage.text.replacing("\\-", with: "-")
    for command in Command.all {
      #expect(page.contains("\n.SS \(command.name)\n"))
      for option in HelpText(command.help).options {
        let isThere = page.contains("\n.B --\(option.name)") || page.contains("[--\(option.name)")
        #expect(isThere, "\(command.name) --\(option.name)")
      }
    }
  }

  @Test func `a help text is taken apart`() {
    let text = HelpText(
      """
      Usage: swap-monitor fly [--fast] [--to PLACE]

      Flies.
      Far.

        --to PLACE            where to (default: home);
                              no further

        swap-monitor fly --to sea
      """)
    #expect(text.usage == "swap-monitor fly [--fast] [--to PLACE]")
    #expect(
      text.blocks == [
        .paragraph("Flies.\nFar."), .entry(term: "--to PLACE", text: "where to (default: home); no further"),
        .example("swap-monitor fly --to sea"),
      ])
    #expect(text.options.map(\.name) == ["to", "fast"] && text.options.map(\.value) == ["PLACE", nil])
    #expect(text.options[0].summary == "where to")
  }

  // MARK: Shells

  @Test func `bash completes commands and options`() throws {
    guard let bash = Self.path(of: "bash") else { return }
    func complete(_ words: [String]) throws -> Set<String> {
      let script =
        Completions.bash + "COMP_WORDS=(\(words.map { "'\($0)'" }.joined(separator: " ")))\n"
        + "COMP_CWORD=\(words.count - 1)\n_swap_monitor\nprintf '%s\\n' \"${COMPREPLY[@]}\""
      return Set(try output([bash, "-c", script]).text.split(separator: "\n").map(String.init))
    }
    #expect(try complete(["swap-monitor", ""]) == Set(Command.all.map(\.name)).union(["help", "--help", "--version"]))
    #expect(try complete(["swap-monitor", "serve", "--log-level", "d"]) == ["debug"])
    for command in Command.all {
      let options = HelpText(command.help).options.map { "--\($0.name)" }
      #expect(try complete(["swap-monitor", command.name, "-"]) == Set(options + ["--help"]), "\(command.name)")
    }
  }

  @Test func `zsh and fish understand theirs`() throws {
    for (shell, text) in [("zsh", Completions.zsh), ("fish", Completions.fish)] {
      guard let path = Self.path(of: shell) else { continue }
      try installed { root in
        let file = shell == "zsh" ? "zsh/site-functions/_swap-monitor" : "fish/vendor_completions.d/swap-monitor.fish"
        let (output, code) = try output([path, "-n", "\(root)/usr/local/share/\(file)"])
        #expect(code == 0 && output.isEmpty, "\(output)")
      }
      for command in Command.all {
        for option in HelpText(command.help).options { #expect(text.contains(option.name)) }
      }
    }
    guard let fish = Self.path(of: "fish") else { return }
    let script = Completions.fish + "complete -C 'swap-monitor install --'"
    let words = try output([fish, "--no-config", "-c", script]).text.split(separator: "\n").map {
      $0.prefix { $0 != "\t" }
    }
    #expect(Set(words) == ["--prefix", "--root", "--dry-run", "--uninstall", "--json", "--help"])
  }

  // MARK: Install

  @Test func `systemd accepts the units`() throws {
    guard let analyze = Self.path(of: "systemd-analyze") else { return }
    try installed { root in
      // The program stands elsewhere than the unit says.
      let units = "\(root)/usr/local/lib/systemd/system"
      _ = try output(["sed", "-i", "s#/usr/local/bin#\(root)/usr/local/bin#", "\(units)/swap-monitor.service"])
      let (text, code) = try output([
        analyze, "verify", "--man=no", "\(units)/swap-monitor.service", "\(units)/swap-monitor.socket",
      ])
      #expect(code == 0 && !text.contains("swap-monitor"), "\(text)")
    }
  }

  @Test func `man understands the manual`() throws {
    guard let man = Self.path(of: "man") else { return }
    try installed { root in
      let (text, code) = try output([man, "--warnings", "-l", "\(root)/usr/local/share/man/man8/swap-monitor.8"])
      #expect(code == 0 && text.contains("--swap-total-limit SIZE") && !text.contains(": warning: "), "\(text)")
    }
  }

  @Test func `installing again changes nothing, and uninstalling removes all`() throws {
    try installed { root in
      let again = try output([program, "install", "--root", root]).text
      let lines = again.split(separator: "\n").filter { $0.contains(root) }
      #expect(lines.count == 8 && lines.allSatisfy { $0.hasPrefix("unchanged") }, "\(again)")
      #expect(try output(["\(root)/usr/local/bin/swap-monitor", "--version"]).code == 0)
      let manual = "\(root)/usr/local/share/man/man8/swap-monitor.8"
      try File.write("another", to: manual)
      let dry = try output([program, "install", "--root", root, "--dry-run"]).text.split(separator: "\n")
      #expect(dry.filter { $0.hasPrefix("unchanged ") }.count == 7 && dry.contains("would write  \(manual)"), "\(dry)")
      try File.remove(manual)
      let away = try output([program, "install", "--root", root, "--dry-run", "--uninstall"]).text
      #expect(away.contains("would remove   \(root)/usr/local/bin/swap-monitor\n"), "\(away)")
      #expect(away.contains("was not there  \(manual)\n"), "\(away)")
      _ = try output([program, "install", "--root", root])
      let (text, code) = try output([program, "install", "--root", root, "--uninstall"])
      #expect(code == 0 && text.split(separator: "\n").filter { $0.hasPrefix("removed") }.count == 8, "\(text)")
      #expect(try output(["find", root, "-type", "f"]).text.isEmpty)
    }
  }

  @Test(
    arguments: [
      (["--prefix", "relative"], "absolute", 2), (["--prefix", "/a b"], "without spaces", 2),
      (["--root", ""], "--root", 2),
      (["--root", "/proc/nowhere"], "as root", 1), (["more"], "unexpected", 2),
    ] as [([String], String, Int32)])
  func `what can't be is refused`(_ words: [String], _ expected: String, _ code: Int32) throws {
    let (text, exitCode) = try output([program, "install"] + words)
    #expect(exitCode == code && text.contains(expected), "\(text)")
  }

  @Test func `another prefix has its units in etc`() throws {
    let (text, code) = try output([program, "install", "--prefix", "/opt/swap/", "--dry-run"])
    #expect(code == 0 && text.contains("/opt/swap/bin/swap-monitor\n"), "\(text)")
    #expect(text.contains("  /etc/systemd/system/swap-monitor.socket\n") && text.contains("  /etc/udev/rules.d/"))
    #expect(ServiceFiles.service(program: "/opt/x").contains("\nExecStart=/opt/x serve\n"))
  }
}
