/// What shells complete, made of the help texts.
enum Completions {
  /// With --help, which every command has.
  private static let commands = Command.all.map { command in
    let help = HelpText.Option(name: "help", value: nil, text: "tell more of it")
    return (name: command.name, options: HelpText(command.help).options + [help])
  }.sorted { $0.name < $1.name }

  /// What a command does, by the list of them.
  private static let purposes = Dictionary(
    HelpText(Help.main).blocks.compactMap { block -> (String, String)? in
      guard case .entry(let term, let text) = block, let name = term.split(separator: " ").first else { return nil }
      return (String(name), HelpText.Option(name: "", value: nil, text: text).summary)
    }, uniquingKeysWith: { first, _ in first })

  private static func purpose(_ command: String) -> String { purposes[command] ?? "" }

  private static let levels = Log.Level.allCases.map { "\($0)" }.joined(separator: " ")
  /// Commands whose first word is a tenant's name.
  private static let tenants = Command.all.filter { $0.help.contains("TENANT") }.map(\.name).sorted()

  private static func options(whoseValueIs value: String) -> String {
    let names = commands.flatMap(\.options).filter { $0.value == value }.map { "--\($0.name)" }
    return Set(names).sorted().joined(separator: "|")
  }

  static var bash: String {
    let cases = commands.map {
      "    \($0.name)) options='\($0.options.map { "--\($0.name)" }.joined(separator: " "))' ;;"
    }
    return """
      # bash completion for swap-monitor
      _swap_monitor() {
        local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} options=
        COMPREPLY=()
        if ((COMP_CWORD == 1)); then
          mapfile -t COMPREPLY < <(compgen -W '\(commands.map(\.name).joined(separator: " ")) help --help --version' -- "$word")
          return
        fi
        case $before in
          \(options(whoseValueIs: "PATH"))) mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
          \(options(whoseValueIs: "DIR"))) mapfile -t COMPREPLY < <(compgen -d -- "$word"); return ;;
          \(options(whoseValueIs: "LEVEL"))) mapfile -t COMPREPLY < <(compgen -W '\(levels)' -- "$word"); return ;;
        esac
        case ${COMP_WORDS[1]} in
      \(cases.joined(separator: "\n"))
        esac
        if [[ $word == -* ]]; then
          mapfile -t COMPREPLY < <(compgen -W "$options" -- "$word")
        else
          case ${COMP_WORDS[1]} in
            \(tenants.joined(separator: "|")))
              mapfile -t COMPREPLY < <(compgen -W "$(swap-monitor list 2>/dev/null | awk 'NR > 1 { print $1 }')" -- "$word") ;;
          esac
        fi
      }
      complete -o filenames -F _swap_monitor swap-monitor

      """
  }

  static var zsh: String {
    func quoted(_ text: String) -> String {
      text.map { "[]:\\".contains($0) ? "\\\($0)" : $0 == "'" ? "'\\''" : String($0) }.joined()
    }
    let actions = ["PATH": "_files", "DIR": "_files -/", "LEVEL": "(\(levels))"]
    let cases = commands.map { command in
      let options = command.options.map { option in
        let value = option.value.map { ":\($0):\(actions[$0] ?? " ")" } ?? ""
        return "'--\(option.name)[\(quoted(option.summary))]\(value)'"
      }
      let words = tenants.contains(command.name) ? ["'1:tenant:_swap_monitor_tenants'"] : []
      return "    \(command.name)) _arguments \((options + words).joined(separator: " ")) ;;"
    }
    return """
      #compdef swap-monitor
      _swap_monitor_tenants() {
        local -a names
        names=(${(f)"$(swap-monitor list 2>/dev/null | awk 'NR > 1 { print $1 }')"})
        compadd -a names
      }
      _swap_monitor() {
        local -a commands
        commands=(
      \(commands.map { "    '\($0.name):\(quoted(purpose($0.name)))'" }.joined(separator: "\n"))
        )
        if ((CURRENT == 2)); then
          _describe command commands
          return
        fi
        shift words
        ((CURRENT--))
        case $words[1] in
      \(cases.joined(separator: "\n"))
        esac
      }
      _swap_monitor "$@"

      """
  }

  static var fish: String {
    func quoted(_ text: String) -> String { text.map { "'\\".contains($0) ? "\\\($0)" : String($0) }.joined() }
    let actions = ["PATH": " -r -F", "DIR": " -x -a '(__fish_complete_directories)'", "LEVEL": " -x -a '\(levels)'"]
    var text = "# fish completion for swap-monitor\ncomplete -c swap-monitor -f\n"
    for (name, options) in commands {
      text += "complete -c swap-monitor -n __fish_use_subcommand -a \(name) -d '\(quoted(purpose(name)))'\n"
      let condition = "-n '__fish_seen_subcommand_from \(name)'"
      for option in options {
        let value = option.value.map { actions[$0] ?? " -x" } ?? ""
        text += "complete -c swap-monitor \(condition) -l \(option.name)\(value) -d '\(quoted(option.summary))'\n"
      }
    }
    let names = "(swap-monitor list 2>/dev/null | awk \"NR > 1 { print \\$1 }\")"
    let condition = "__fish_seen_subcommand_from \(tenants.joined(separator: " "))"
    return text + "complete -c swap-monitor -n '\(condition)' -a '\(names)'\n"
  }
}
