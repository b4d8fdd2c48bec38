/// What systemd and udev are told.
enum ServiceFiles {
  /// - Parameter program: its path.
  static func service(program: String) -> String {
    """
    [Unit]
    Description=Gives back the memory of idle virtual machines
    Documentation=man:swap-monitor(8)
    Wants=swap-monitor.socket
    After=swap-monitor.socket
    # While it is down, its tenants wait: it is started again whatever happens.
    StartLimitIntervalSec=0

    [Service]
    Type=notify
    # An attendant that has become the keeper says so itself.
    NotifyAccess=all
    ExecStart=\(program) serve
    ExecReload=\(program) upgrade
    Restart=on-failure
    RestartSec=1s
    # Wrong usage stays wrong.
    RestartPreventExitStatus=2
    TimeoutStartSec=10min
    # SIGTERM for the keeper alone, which has everybody's memory brought back; that takes as long as it takes.
    KillMode=mixed
    TimeoutStopSec=infinity
    WatchdogSec=60s
    WatchdogSignal=SIGKILL
    # What the next start goes on with, should keeper and worker die in one blow.
    FileDescriptorStoreMax=65536
    # Killing it frees nothing, and a worker's death is not the service's.
    OOMScoreAdjust=-900
    OOMPolicy=continue
    ManagedOOMPreference=omit
    TasksMax=infinity
    LimitMEMLOCK=64M
    # Guests' memory does not belong into core dumps.
    LimitCORE=0
    StateDirectory=swap-monitor
    StateDirectoryMode=0700
    RuntimeDirectory=swap-monitor
    # The socket in it outlives the service.
    RuntimeDirectoryPreserve=yes
    UMask=0077

    # It looks into /proc of its tenants, stops and continues them, takes their userfaultfds, opens their memfds by
    # map_files, and locks buffers. (CAP_CHOWN: --socket-group.)
    CapabilityBoundingSet=CAP_SYS_PTRACE CAP_KILL CAP_IPC_LOCK CAP_DAC_READ_SEARCH CAP_CHECKPOINT_RESTORE CAP_CHOWN
    NoNewPrivileges=yes
    DevicePolicy=closed
    DeviceAllow=/dev/userfaultfd rw
    # Another swap directory needs ReadWritePaths=.
    ProtectSystem=strict
    ProtectHome=yes
    PrivateTmp=yes
    ProtectClock=yes
    ProtectControlGroups=yes
    ProtectHostname=yes
    ProtectKernelLogs=yes
    ProtectKernelModules=yes
    ProtectKernelTunables=yes
    LockPersonality=yes
    MemoryDenyWriteExecute=yes
    RestrictAddressFamilies=AF_UNIX
    IPAddressDeny=any
    RestrictNamespaces=yes
    RestrictRealtime=yes
    RestrictSUIDSGID=yes
    SystemCallArchitectures=native
    # (The worker filters more: 'swap-monitor check-sandbox' shows it.)
    SystemCallFilter=@system-service ptrace pidfd_getfd kcmp
    SystemCallFilter=seccomp capset landlock_create_ruleset landlock_add_rule landlock_restrict_self
    SystemCallErrorNumber=EPERM

    [Install]
    WantedBy=multi-user.target
    Also=swap-monitor.socket

    """
  }

  static let socket = """
    [Unit]
    Description=Socket of swap-monitor, which gives back the memory of idle virtual machines
    Documentation=man:swap-monitor(8)

    [Socket]
    ListenSequentialPacket=/run/swap-monitor/swap-monitor.sock
    # Who may connect: SocketGroup= in a drop-in lets a group.
    SocketMode=0660
    DirectoryMode=0755
    RemoveOnStop=yes
    # Packets from before a connection is let in shall be told from its end, too.
    PassCredentials=yes

    [Install]
    WantedBy=sockets.target

    """

  static let udevRule = """
    # Who runs virtual machines may make userfaultfds that serve the kernel's own accesses (KVM) too.
    KERNEL=="userfaultfd", SUBSYSTEM=="misc", GROUP="kvm", MODE="0660"

    """
}
