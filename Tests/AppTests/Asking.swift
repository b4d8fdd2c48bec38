import Synchronization

@testable import Adapters
@testable import App

/// A request that is asked on a thread of its own, so that the worker can be killed meanwhile.
final class Asking: Sendable {
  private final class Box: Sendable { let value = Mutex<JSONValue?>(nil) }
  private let box: Box
  private let thread: Adapters.Thread

  init(_ client: Client, _ request: [String: JSONValue]) throws {
    let box = Box()
    self.box = box
    thread = try Adapters.Thread(name: "asking") {
      do throws(CommandFailure) {
        let reply = try client.exchange(request)
        box.value.withLock { $0 = reply }
      } catch {}
    }
  }

  func answer() -> JSONValue? {
    thread.join()
    return box.value.withLock { $0 }
  }
}
