internal import Adapters

/// `swap-monitor check-sandbox`.
enum SandboxCheck {
  static func run(_ arguments: Arguments) throws {
    let lack = try Sandbox.enter()
    let trials = SandboxTrial.all()
    let isTight = trials.allSatisfy(\.isAsItShouldBe) && SandboxTrial.capabilities == 0
    if arguments.has("json") {
      ClientCommands.printJSON([
        "ok": .bool(isTight), "lack": lack.map { .string($0) } ?? .null,
        "capabilities": .int(SandboxTrial.capabilities),
        "trials": .array(
          trials.map {
            [
              "name": .string($0.name), "forbidden": .bool($0.isForbidden),
              "result": .string($0.errorNumber.map { errorText($0) } ?? "possible"), "ok": .bool($0.isAsItShouldBe),
            ]
          }),
      ])
    } else {
      var table = Table(["WHAT", "RESULT", ""], numbers: [])
      for trial in trials {
        table.add([
          trial.name, trial.errorNumber.map { "refused (\(errorText($0)))" } ?? "possible",
          trial.isAsItShouldBe ? "as it should be" : "WRONG",
        ])
      }
      let left = "capabilities left: \(SandboxTrial.capabilities)\n"
      Console.write(table.text + left + (lack.map { "\($0)\n" } ?? ""))
    }
    if !isTight { Console.exit(1) }
  }
}
