/// What `--help` says.
enum Help {
  static let main = """
    swap-monitor gives back the memory of idle virtual machines, and returns it page by page when it is touched.

    Usage: swap-monitor COMMAND [ARGUMENTS]

      demo                  watch a gigabyte of a process go to disk and come back, every byte checked
      torture               kill a daemon's worker again and again, and check that nothing is lost
      bench                 measure each kind of work, beside what this machine can do at best
      serve                 run the daemon (VMMs and other programs register with it, see PROTOCOL.md)
      attach PID            make a running virtual machine (or other process) a tenant, as it is
      detach TENANT         bring everything back, and leave it as it was
      list                  the tenants: state, size, processes
      status [TENANT]       where a tenant's pages are, and what was done last; a line each without a name; --watch
      enable TENANT         take a tenant's resident memory out into staging
      trim TENANT           drop staged pages that are zero, or unchanged since they were last written out
      out TENANT            write staged pages to the swap file
      disable TENANT        bring everything back and stop monitoring
      unregister TENANT     the same, and forget the tenant
      upgrade               go on with the program that is on disk now; tenants and connections stay
      install               put it in place as a service of systemd, with a manual page and completions
      check-sandbox         show what a worker gives up, and whether this kernel sees to it

    A tenant's way: enable, then minutes later trim and out; whatever it touches comes back by itself; disable ends it.

      swap-monitor enable vm1 && sleep 300 && swap-monitor trim vm1 && swap-monitor out vm1
      swap-monitor status --watch
      swap-monitor disable vm1

    All but serve, demo, torture, bench, install and check-sandbox speak to a running daemon; --socket PATH or
    $SWAP_MONITOR_SOCKET says where it listens.
    'swap-monitor COMMAND --help' tells more of each. --version prints the version.

    What takes longer than half a second shows how far it is, on a terminal. With --json every command but serve answers
    with one JSON object on standard output (status --watch: one a look), also where it fails:
    {"ok": false, "error": {"code": ..., "message": ...}}, with a code of PROTOCOL.md's, or "usage", "no-daemon",
    "interrupted" or "failed".
    Exit codes: 0 done, 1 failed, 2 wrong usage.
    """

  static let install = """
    Usage: swap-monitor install [--prefix DIR] [--root DIR] [--dry-run] [--uninstall] [--json]

    Puts this program in place as a service of systemd: the program, a service and a socket unit, a udev rule that lets the
    group kvm make userfaultfds, the manual page, and completions for bash, zsh and fish. Nothing is started: it says what to
    do next. Done again, it replaces what has changed; a running daemon goes on with the new program when it is told to
    (systemctl reload swap-monitor).

      --prefix DIR          where to (default: /usr/local); with another one than /usr and /usr/local, units and rule go
                            to /etc
      --root DIR            for packagers: put everything below DIR, which is not part of what the files say
      --dry-run             say what would be done, and do nothing
      --uninstall           remove these files again; a service that runs is to be stopped first
      --json                the files as one JSON object

      swap-monitor install --prefix /usr --root debian/swap-monitor
    """

  static let attach = """
    Usage: swap-monitor attach PID [--name NAME] [--qmp SOCKET] [--region MEMORY]... [--freeze MODE] [--dry-run] [OPTIONS]

    Has the running daemon take in a process that was never changed for it: a QEMU, or anything else whose memory is in a
    shared mapping of a memfd, sealed against shrinking (as QEMU seals it). The process makes its userfaultfd by a system
    call that is put into its mouth (ptrace), for which its main thread is held for less than a millisecond; then it is a
    tenant like any other.

      --name NAME           the tenant's name (default: the program's name and PID)
      --qmp SOCKET          the virtual machine's monitor: it is paused through it while memory is moved, with its I/O drained
                            (one that was paused stays so). For machines with direct, asynchronous or vhost I/O, whose memory
                            enable refuses to move else
      --region MEMORY       take this memory, by its memfd's name or its address (0x...); more than once for more. Without
                            it, all that is 16 MiB or larger and can be taken
      --freeze MODE         how writers are kept off while memory is moved: signal (default) stops the process with SIGSTOP,
                            live stops nobody
      --dry-run             only show what would be taken
      --socket PATH         the daemon's socket, as for serve
      --json                the daemon's reply as it is

    The daemon must be allowed to trace the process: root, or the same user and CAP_SYS_PTRACE. A QEMU's memory is in a memfd
    with:  -object memory-backend-memfd,id=mem,size=4G,share=on -machine q35,memory-backend=mem
    (libvirt: <memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>)

      swap-monitor attach $(pgrep -n -x qemu-system-x86) --name vm1 --qmp /run/vm1.qmp && swap-monitor enable vm1
    """

  static let upgrade = """
    Usage: swap-monitor upgrade [--socket PATH] [--json]

    Has the running daemon replaced by the program that is at its path now: install the new one over the old one, then ask
    this. Nothing is stopped: tenants and connections stay, what they touch meanwhile waits for some milliseconds. Where the
    new program does not know the running one's page tables, it is refused, and the old one goes on. For root and the
    daemon's own user.
    """

  static let checkSandbox = """
    Usage: swap-monitor check-sandbox [--json]

    Does what a daemon's worker does before it looks at a client, and then tries what it has given up: opening files, making
    sockets and processes, running programs, signalling, tracing. Shows what became of each, and what capabilities are left.
    Exit code 1 where something was not refused: where this kernel has no Landlock, files can be opened.

    A running worker shows the same in /proc/PID/status: NoNewPrivs 1, Seccomp 2, CapEff 0.
    """

  static let serve = """
    Usage: swap-monitor serve [OPTIONS]

    Runs the daemon in the foreground, logging to standard error. SIGTERM, SIGINT and SIGHUP bring every tenant's memory back, then
    end it. It is some processes: a keeper, which holds what must not be lost; its worker, which does the work, in a sandbox
    (no capabilities, few system calls, next to no paths); and its attendant, which does for it what takes privilege (the
    next worker's waits beside it).
    Should the worker die of anything, the keeper starts another, which goes on; should the keeper die, it is replaced too.

      --socket PATH         where to listen (default: /run/swap-monitor/swap-monitor.sock for root, else
                            $XDG_RUNTIME_DIR/swap-monitor.sock, or /tmp/swap-monitor-UID.sock without that variable;
                            $SWAP_MONITOR_SOCKET overrides it)
      --socket-mode MODE    the socket's access mode, in octal (default 0660: its user and group may connect)
      --socket-group GROUP  the group that the socket is given to
      --swap-dir DIR        where swap files are made, unnamed; it is made where it is missing (default:
                            /var/lib/swap-monitor for root, else
                            $XDG_STATE_HOME/swap-monitor, or $HOME/.local/state/swap-monitor without that variable)
      --keep-free SIZE      end writing out before the disk has less free than this (default: 2G or 5 % of the disk, the
                            smaller)
      --staging-limit SIZE  how much memory the staged pages of all tenants may take together: enable ends there, and
                            leaves the rest resident ("partial"); out makes room, and moves and writes the rest
      --swap-limit SIZE     how large one tenant's swap file may become
      --swap-total-limit SIZE  and all swap files together; out ends where a limit is reached, as for a full disk
      --log-level LEVEL     error, warning, info (default) or debug
      --no-sandbox          let the worker keep all rights, for debugging ('swap-monitor check-sandbox' shows what it gives
                            up, and whether this kernel sees to it)
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

  static let torture = """
    Usage: swap-monitor torture [--seconds N] [--memory SIZE] [--seed S] [--live] [--no-kill] [--stalls] [OPTIONS]

    Starts a daemon and a tenant of two processes, whose threads increment counters all over the memory that they share, and
    check each before; others' pages lie between, and some are removed. Meanwhile connections ask for random things, and the
    daemon's worker is killed (SIGKILL) at random moments, also while the next one takes over. At the end every page is
    compared. Exit code 1 when anything was lost, hung, or answered as it must not be.

      --seconds N           how long (default 60); comparing comes on top
      --memory SIZE         how much memory the tenant has (default 256M)
      --seed S              what is random then depends on S (and on the machine's own timing)
      --live                nobody is stopped while memory moves ("freeze": "live")
      --no-kill             kill nothing
      --stalls              kill nothing, only enable and disable, and measure what `enable` costs writers who write now and
                            then: by how much a write was late at worst, and how long one has to wait that comes at any
                            moment while memory moves, in all but a thousandth of these moments (stall p99.9)
      --disk-trouble        the swap directory's disk fails, or fills up: no-space and io-error are right answers, and the
                            disk is filled to the last byte
      --patience N          a writer or request without progress for so many seconds hangs (default 30)
      --swap-dir DIR        where the swap file is made (default: as for serve)
      --log-level LEVEL     show the daemon's log, as for serve, on standard error
      --json                the figures as one JSON object

    Recovery is the time from a kill until a fresh connection's status is answered, and every writer has finished a round
    (512 increments, one of them on any page) that it began after the kill.
    """

  static let bench = """
    Usage: swap-monitor bench [--memory SIZE] [--runs N] [--only ROWS] [OPTIONS]

    Starts a daemon and a tenant process, has all of its memory moved, trimmed, written out and brought back, touches random
    pages, and compares every page after each return. Beside each figure stands the limit: what bare loops in this program,
    in one thread or two (the better one), do with the same pages on this machine, measured in turn with it. A ratio that
    reaches the mark holds. Exit code 1 when a page came back wrong; a mark that is missed is no failure.

      --memory SIZE         how much memory the tenant has (default 1G); free RAM for three times as much is needed
      --runs N              how often everything is measured; the medians count, and min and max are shown (default 5)
      --zero-run N          how many zero pages lie together, of which a quarter of the memory is made (default 1; and 64 for
                            another row of trim)
      --only ROWS           these rows alone: their names, or how they begin, separated by commas
      --swap-dir DIR        where swap files are made (default: as for serve)
      --compare WHAT        kernel-swap: as root, also MADV_PAGEOUT into a swap file of its own, and touches of what is there;
                            those alone count that waited for the disk, here and there
      --collapse            have huge pages made (MADV_COLLAPSE) for their rows, which are left out where the kernel's
                            setting gives shared memory none; the setting itself is never changed
      --plot FILE           ours, marks and reference beside the limits as an SVG image
      --json                one JSON object: {"rows": [{"name", "unit", "ours", "limit", "ratio", "mark", "holds", ...}], "machine": ...}

    Cold files take root, who may drop the page cache. Let nothing else run meanwhile.

      swap-monitor bench --memory 256M --runs 3 --only move,fault
    """

  static let list = """
    Usage: swap-monitor list [--socket PATH] [--json]

    Shows the tenants that you may see: root all, others those that their own user registered.

      swap-monitor list --json | jq -r '.tenants[].tenant'          their names alone
    """

  static let status = """
    Usage: swap-monitor status [TENANT] [--watch] [--interval SECONDS] [--socket PATH] [--json]

    Shows where a tenant's pages are: resident in the guest, in staging memory, in the swap file only; how many faults were
    served from where since the last enable; and the pages and time of the last operation. Without a name, a line for every
    tenant.

      --watch               look again every second, with the faults a second between two looks, until Ctrl-C; ends with
                            exit code 1 when the daemon, or the tenant of that name, goes away
      --interval SECONDS    watch, with another pause: 0.1 or more

      swap-monitor status vm1
      swap-monitor status --watch
      swap-monitor status vm1 --interval 60 --json >> vm1.log       a JSON object a minute
    """

  static let enable = ofTenant(
    "enable",
    """
    Moves all resident memory of the tenant into staging memory. What it touches comes back by itself. trim and out
    come next: the longer after it, the more of what is in use has come back before.

    Waits for the end and shows the result. While memory is moved, the tenant's processes are stopped (SIGSTOP), unless
    it registered with "freeze": "caller"; then only its own connection may ask. Where memory does not suffice, the rest
    stays resident ("partial").
    """,
    options: """

        --accept-dma-risk     also where the processes show signs of direct, asynchronous or device I/O
        --accept-strange-mappings  also where pages were touched through a mapping that nobody has announced
      """,
    example: "enable vm1 && sleep 300 && swap-monitor trim vm1")

  static let trim = ofTenant(
    "trim",
    """
    Drops staged pages that are zero, or unchanged since they were last written to the swap file. It needs no disk, and
    spares out work. The tenant must be Pending, as enable leaves it. Waits for the end and shows the result.
    """, options: noWait, example: "trim vm1 && swap-monitor out vm1")

  static let out = ofTenant(
    "out",
    """
    Writes staged pages to the swap file and frees their memory. The tenant must be Pending, as enable leaves it; another
    enable, or disable, ends the writing. What enable has left for want of memory is moved then, part by part, with
    the processes stopped for each, and written too. Waits for the end and shows the result.
    """, options: noWait, example: "out vm1 --no-wait; swap-monitor status vm1 --watch")

  static let disable = ofTenant(
    "disable",
    """
    Brings all of the tenant's memory back and stops monitoring it, in any state. The tenant stays registered, and can be
    enabled again. Waits for the end and shows the result.
    """,
    options: noWait + "\n  --slow-file-cleanup   empty the swap file little by little, in the background",
    example: "disable vm1")

  static let detach = ofTenant(
    "detach",
    """
    Brings all of the tenant's memory back, stops monitoring it, closes what attach has opened in its process, and
    forgets the tenant, which runs on as if nothing had been. Waits for the end. (Who has registered by itself is left
    alone: unregister ends that.)
    """, example: "detach vm1")

  static let unregister = ofTenant(
    "unregister",
    """
    Brings all of the tenant's memory back, stops monitoring it, and forgets the tenant, which runs on without
    swap-monitor. (disable does the same, and keeps it registered.) Waits for the end.
    """, example: "unregister vm1")

  private static func ofTenant(_ name: String, _ what: String, options: String = "", example: String) -> String {
    """
    Usage: swap-monitor \(name) TENANT [OPTIONS]

    \(what)
    \(options)
      --socket PATH         the daemon's socket, as for serve
      --json                the daemon's reply as it is (PROTOCOL.md, "status"); a refusal too

      swap-monitor \(example)
    """
  }

  private static let noWait = "\n  --no-wait             return as soon as it has begun"
}
