import Domain
import Glibc
import Testing

@testable import Adapters

@Suite struct SocketListenerTests {
  private static func refusal(_ path: String, mode: UInt32 = 0o600, group: String? = nil) -> SocketListener.Failure? {
    do throws(SocketListener.Failure) {
      _ = try SocketListener(path: path, mode: mode, group: group)
      return nil
    } catch { return error }
  }

  @Test("it listens with the mode that was asked for, makes missing directories, and lets clients in")
  func listens() throws {
    let directory = try TemporaryDirectory()
    let path = "\(directory.path)/one/two/socket"
    defer {
      rmdir("\(directory.path)/one/two")
      rmdir("\(directory.path)/one")
    }
    let listener = try SocketListener(path: path, mode: 0o660, group: "0")
    var status = stat()
    #expect(lstat(path, &status) == 0)
    #expect(status.st_mode & S_IFMT == S_IFSOCK && status.st_mode & 0o7777 == 0o660)
    #expect(try listener.accept().map { _ in 0 } == nil)
    let client = try SequencedSocket(connectingTo: path)
    let server = try #require(try listener.accept())
    #expect(fcntl(server.descriptor.raw, F_GETFL) & O_NONBLOCK != 0)
    #expect(fcntl(server.descriptor.raw, F_GETFD) & FD_CLOEXEC != 0)
    #expect(try client.send([1, 2]))
    guard case .packet(let packet) = try server.receive() else {
      Issue.record("the packet did not come")
      return
    }
    #expect(packet.bytes == [1, 2])
    #expect(try server.peer().process?.pid == getpid())
    try File.remove(path)
    #expect(access(path, F_OK) != 0)
    #expect(throws: SystemError.self) { try SequencedSocket(connectingTo: path) }
  }

  @Test("a stale socket is replaced; one that is served is not, and goes on")
  func staleAndLive() throws {
    let directory = try TemporaryDirectory()
    let path = "\(directory.path)/socket"
    do { _ = try SocketListener(path: path, mode: 0o600, group: nil) }
    #expect(access(path, F_OK) == 0)
    // (A child of another test may hold the old listener for an instant.)
    var made: SocketListener?
    #expect(
      eventually {
        do throws(SocketListener.Failure) { made = try SocketListener(path: path, mode: 0o600, group: nil) } catch {}
        return made != nil
      })
    guard case .alreadyServed(let served)? = Self.refusal(path) else {
      Issue.record("a second listener was made")
      return
    }
    #expect(served == path)
    _ = try SequencedSocket(connectingTo: path)
    withExtendedLifetime(made) {}
  }

  @Test("what is no socket is left alone; a path that is too long and an unknown group are errors with names")
  func refusals() throws {
    let directory = try TemporaryDirectory()
    let path = "\(directory.path)/file"
    let raw = open(path, O_CREAT | O_WRONLY, 0o600)
    close(raw)
    guard case .system(let taken)? = Self.refusal(path) else {
      Issue.record("a file was replaced")
      return
    }
    #expect(taken.errorNumber == EEXIST && taken.description.contains(path))
    #expect(access(path, F_OK) == 0)
    guard case .system(let long)? = Self.refusal(directory.path + "/" + String(repeating: "x", count: 120)) else {
      Issue.record("a long path was used")
      return
    }
    #expect(long.errorNumber == ENAMETOOLONG && long.description.contains("at most 107 bytes"))
    guard case .system(let group)? = Self.refusal(directory.path + "/socket", group: "no-such-group") else {
      Issue.record("an unknown group was found")
      return
    }
    #expect(group.description.contains("no-such-group"))
  }
}
