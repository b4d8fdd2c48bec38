internal import Adapters

/// Where things are unless told otherwise.
enum Defaults {
  static let version = "0.1.0"

  static func socketPath() -> String {
    if let path = Machine.environment("SWAP_MONITOR_SOCKET") { return path }
    if Machine.effectiveUser == 0 { return "/run/swap-monitor/swap-monitor.sock" }
    if let directory = Machine.environment("XDG_RUNTIME_DIR") { return "\(directory)/swap-monitor.sock" }
    return "/tmp/swap-monitor-\(Machine.effectiveUser).sock"
  }

  static func swapDirectory() -> String {
    if Machine.effectiveUser == 0 { return "/var/lib/swap-monitor" }
    let state = Machine.environment("XDG_STATE_HOME") ?? "\(Machine.environment("HOME") ?? "/tmp")/.local/state"
    return "\(state)/swap-monitor"
  }
}
