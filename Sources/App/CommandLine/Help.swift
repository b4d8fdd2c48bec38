/// What `--help` says.
enum Help {
  static let commands: Set<String> = ["demo", "serve", "list", "status", "enable", "trim", "out", "disable"]

  static let main = """
    swap-monitor gives back the memory of idle virtual machines, and returns it page by page when it is touched.

    Usage: swap-monitor COMMAND [ARGUMENTS]

      demo                  watch a gigabyte of a process go to disk and come back, every byte checked
      serve                 run the daemon (VMMs and other programs register with it, see PROTOCOL.md)
      list                  the tenants: state, size, processes
      status [TENANT]       where a tenant's pages are, and what was done last (every tenant's without a name)
      enable TENANT         take a tenant's resident memory out into staging
      trim TENANT           drop staged pages that are zero, or unchanged since they were last written out
      out TENANT            write staged pages to the swap file
      disable TENANT        bring everything back and stop monitoring

    A tenant's way: enable, then minutes later trim and out; whatever it touches comes back by itself; disable ends it.

    All but serve and demo speak to a running daemon; --socket PATH or $SWAP_MONITOR_SOCKET says where it listens.
    'swap-monitor COMMAND --help' tells more of each. --version prints the version.
    Exit codes: 0 done, 1 failed, 2 wrong usage.
    """

  static let serve = """
    Usage: swap-monitor serve [OPTIONS]

    Runs the daemon in the foreground, logging to standard error. SIGTERM or SIGINT bring every tenant's memory back, then
    end it.

      --socket PATH         where to listen (default: /run/swap-monitor/swap-monitor.sock for root, else
                            $XDG_RUNTIME_DIR/swap-monitor.sock, or /tmp/swap-monitor-UID.sock without that variable;
                            $SWAP_MONITOR_SOCKET overrides it)
      --socket-mode MODE    the socket's access mode, in octal (default 0660: its user and group may connect)
      --socket-group GROUP  the group that the socket is given to
      --swap-dir DIR        where swap files are made, unnamed (default: /var/lib/swap-monitor for root, else
                            $XDG_STATE_HOME/swap-monitor)
      --keep-free SIZE      end writing out before the disk has less free than this (default: 2G or 5 % of the disk, the
                            smaller)
      --log-level LEVEL     error, warning, info (default) or debug
      --end-with-parent     end, as by SIGTERM, when the process that started it ends
    """

  static let demo = """
    Usage: swap-monitor demo [--memory SIZE] [--swap-dir DIR] [--json]

    Starts a daemon and a tenant process of its own, which speak the real protocol: the tenant's memory is filled with
    random, text-like and zero pages, moved out, trimmed, written to disk, touched, brought back; then every byte is
    compared with what was written.

      --memory SIZE         how much memory the tenant has (default 1G)
      --swap-dir DIR        where the swap file is made (default: as for serve)
      --json                the figures as one JSON object

    It works without root: user-mode-only userfaultfds suffice for a process that touches its memory itself.
    """

  static let list = """
    Usage: swap-monitor list [--socket PATH] [--json]

    Shows the tenants that you may see: root all, others those that their own user registered.
    """

  static let status = """
    Usage: swap-monitor status [TENANT] [--socket PATH] [--json]

    Shows where a tenant's pages are: resident in the guest, in staging memory, in the swap file only; how many faults were
    served from where since the last enable; and the pages and time of the last operation. Without a name, every tenant.
    """

  static func command(_ name: String) -> String {
    let what =
      switch name {
      case "enable":
        "Moves all resident memory of the tenant into staging memory. What it touches comes back by itself."
      case "trim": "Drops staged pages that are zero, or unchanged since they were last written to the swap file."
      case "out": "Writes staged pages to the swap file and frees their memory."
      default: "Brings all of the tenant's memory back and stops monitoring it."
      }
    let options =
      name == "enable"
      ? """
      Waits for the end and shows the result. While memory is moved, the tenant's processes are stopped (SIGSTOP), unless it
      registered with "freeze": "caller"; then only its own connection may ask.

        --accept-dma-risk     also where the processes show signs of direct, asynchronous or device I/O
      """
      : """
      Waits for the end and shows the result.

        --no-wait             return as soon as it has begun
      """
    return """
      Usage: swap-monitor \(name) TENANT [OPTIONS]

      \(what)
      \(options)
        --socket PATH         the daemon's socket, as for serve
        --json                the daemon's reply as it is (PROTOCOL.md, "status"); a refusal too
      """
  }
}
