/// swap-monitor(8), made of the help texts and of what only a manual tells.
enum ManualPage {
  static var text: String {
    let main = HelpText(Help.main)
    var page = """
      .TH SWAP\\-MONITOR 8 "" "swap\\-monitor \(Defaults.version)" "System Administration"
      .SH NAME
      swap\\-monitor \\- gives back the memory of idle virtual machines, and returns it when it is touched
      .SH SYNOPSIS

      """
    for usage in [main.usage] + commands.map(\.text.usage) { page += ".B \(escaped(usage))\n.br\n" }
    page += ".SH DESCRIPTION\n" + roff(main.blocks) + ".SH COMMANDS\n"
    for (name, text) in commands { page += ".SS \(escaped(name))\n" + roff(text.blocks) }
    for (title, text) in sections { page += ".SH \(title)\n" + roff(HelpText(text).blocks) }
    return page
  }

  private static let commands = Command.all.map { (name: $0.name, text: HelpText($0.help)) }.sorted {
    $0.name < $1.name
  }

  private static func roff(_ blocks: [HelpText.Block]) -> String {
    blocks.enumerated().map { number, block in
      switch block {
      case .paragraph(let text): (number > 0 ? ".PP\n" : "") + "\(escaped(text))\n"
      case .entry(let term, let text): ".TP\n.B \(escaped(term))\n\(escaped(text))\n"
      case .example(let text): ".PP\n.EX\n\(escaped(text))\n.EE\n"
      }
    }.joined()
  }

  /// A line of text must not look like a request (groff(7)).
  private static func escaped(_ text: String) -> String {
    text.split(separator: "\n").map { line in
      let safe = line.map { $0 == "\\" ? "\\e" : $0 == "-" ? "\\-" : $0 == "'" ? "\\(aq" : String($0) }.joined()
      return safe.hasPrefix(".") ? "\\&" + safe : safe
    }.joined(separator: "\n")
  }

  private static let sections = [
    (
      "SERVICE",
      """
      'swap-monitor install' puts units for systemd in place. The socket unit listens, and starts the service with the first
      who connects; the service waits for nothing but its readiness (Type=notify).

        systemctl enable --now swap-monitor.socket

      Options for serve, limits and another swap directory go into a drop-in of your own, which replaces the command:

        systemctl edit swap-monitor.service

      Stopping the service brings every tenant's memory back first, and waits as long as that takes. Reloading it goes on with
      the program that is on disk now ('swap-monitor upgrade'). Should keeper and worker both be killed, systemd starts the
      service again with all descriptors, which it has kept, and it goes on. The same happens when the worker's control
      thread does not answer the watchdog. 'systemctl status' shows how many tenants there are, and where their pages are.
      """
    ),
    (
      "ENVIRONMENT",
      """
        SWAP_MONITOR_SOCKET   the daemon's socket, where --socket does not say
        XDG_RUNTIME_DIR       where the socket is made for others than root
        XDG_STATE_HOME        where swap files are made for others than root
        NOTIFY_SOCKET, WATCHDOG_USEC, LISTEN_FDS  what systemd tells a service (sd_notify(3), sd_listen_fds(3))
      """
    ),
    (
      "FILES",
      """
        /run/swap-monitor/swap-monitor.sock  the socket
        /var/lib/swap-monitor  swap files, which have no names there
        /dev/userfaultfd      lets who may open it make userfaultfds that serve the kernel's own accesses too
      """
    ),
    ("SEE ALSO", "userfaultfd(2), memfd_create(2), systemd.service(5), and PROTOCOL.md of the sources"),
  ]
}
