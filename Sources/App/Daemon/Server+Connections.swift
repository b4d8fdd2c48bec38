internal import Adapters
internal import Domain

/// Packets in, replies out: one request of a connection at a time.
extension Server {
  func acceptConnections() {
    do throws(SystemError) {
      // Who comes and goes all the time keeps nobody waiting.
      for _ in 0..<Limits.acceptsPerTurn {
        let token = takeToken()
        guard let descriptor = try link.accept(as: HeldRole.socket.key(token)) else { return }
        let socket = SequencedSocket(adopting: descriptor)
        let peer = try socket.peer()
        if let complaint = refusal(of: peer) {
          acceptLog.warning("a connection is refused: \(complaint)")
          socket.shutDown()
          link.drop(group: token)
          continue
        }
        let connection = Connection(token: token, socket: socket, peer: peer, record: try RequestRecord())
        try link.hold([(HeldRole.request.key(token), connection.record.descriptor)])
        try loop.add(socket.descriptor, token: connection.token)
        connections[connection.token] = connection
      }
    } catch {
      // Who knocks stays at the door, and would be reported again at once.
      acceptLog.warning("\(error)")
      SystemClock().sleep(microseconds: 1000)
    }
  }

  private func refusal(of peer: Peer) -> String? {
    guard connections.count < Limits.connections else { return "there are \(Limits.connections) already" }
    let own = connections.values.count { $0.user == peer.user }
    return isPrivileged(peer.user) || own < Limits.connectionsOfUser
      ? nil : "user \(peer.user) has \(Limits.connectionsOfUser) already"
  }

  func handle(_ ready: EventLoop.Ready, _ connection: Connection) {
    if connection.isBusy {
      // It hung up; what it asked for is carried out, and what it may have asked after that is read then.
      connection.isHungUp = true
      loop.remove(connection.socket.descriptor)
      return
    }
    if let reply = connection.unsentReply {
      connection.unsentReply = nil
      send(connection, reply)
      if connection.unsentReply != nil && ready.isHungUp { return close(connection) }
    }
    readRequests(connection)
  }

  private func readRequests(_ connection: Connection) {
    for _ in 0..<Limits.packetsPerTurn where !connection.isBusy && connection.unsentReply == nil {
      guard connections[connection.token] != nil else { return }
      do throws(SystemError) {
        switch try connection.socket.peek() {
        case .nothingYet:
          if connection.isHungUp { close(connection) }
          return
        case .closed: return close(connection)
        case .packet(let packet):
          try link.hold(
            packet.descriptors.enumerated().map {
              (HeldRole.requestDescriptor.key(connection.token, $0.offset), $0.element)
            })
          try connection.socket.take(into: connection.record)
          connection.requestDescriptors = packet.descriptors.count
          handle(packet, connection)
        }
      } catch {
        log.debug("connection \(connection.token): \(error)")
        return close(connection)
      }
    }
    // A connection that hung up is not watched any more: what is left in it is read now.
    if connection.isHungUp && !connection.isBusy { readRequests(connection) }
  }

  func close(_ connection: Connection) {
    loop.remove(connection.socket.descriptor)
    connections[connection.token] = nil
    connection.socket.shutDown()  // the keeper's descriptor may live on for an instant
    link.drop(group: connection.token)
    guard let identifier = connection.tenant, let tenant = tenants[identifier] else { return }
    log.info("tenant \(tenant.name): its connection is closed; bringing everything back")
    apply(Tenant.Command(command: .unregister, connection: nil, waits: false), to: tenant)
  }

  /// Sends the reply to the connection's request, and takes the next one.
  func answer(_ connection: Connection, _ reply: JSONValue) {
    var bytes = reply.bytes
    if let id = connection.pendingIdentifier {
      bytes.insert(contentsOf: Array("\"id\":".utf8) + id + [UInt8(ascii: ",")], at: 1)  // every reply has a member
    }
    let wasBusy = connection.isBusy
    connection.pendingIdentifier = nil
    connection.isBusy = false
    connection.isReplayed = false
    send(connection, bytes)
    for index in 0..<connection.requestDescriptors {
      link.drop(HeldRole.requestDescriptor.key(connection.token, index))
    }
    connection.requestDescriptors = 0
    if wasBusy { resumeReading(connection) }
  }

  func answer(_ connection: Connection, _ error: ProtocolError) {
    answer(connection, ["ok": false, "error": error.json])
  }

  private func send(_ connection: Connection, _ bytes: [UInt8]) {
    do throws(SystemError) {
      if !(try connection.socket.send(bytes, ending: connection.record)) {
        connection.unsentReply = bytes
        try watch(connection, readable: false, writable: true)
      } else {
        try watch(connection, readable: true, writable: false)
      }
    } catch { log.debug("connection \(connection.token): \(error)") }
  }

  /// One that hung up is not watched any more.
  private func watch(_ connection: Connection, readable: Bool, writable: Bool) throws(SystemError) {
    if connection.isHungUp { return }
    try loop.change(connection.socket.descriptor, token: connection.token, readable: readable, writable: writable)
  }

  private func resumeReading(_ connection: Connection) {
    if connection.isHungUp {
      connection.unsentReply = nil
      readRequests(connection)
    }
  }

  /// The request is answered later: nothing more is read until then.
  func keepBusy(_ connection: Connection) {
    connection.isBusy = true
    do throws(SystemError) { try watch(connection, readable: false, writable: false) } catch { log.warning("\(error)") }
  }
}
