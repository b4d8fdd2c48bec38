package import Domain
internal import Glibc

/// Looks through /proc for processes that map a tenant's memory: children whom forks have brought, and strangers.
package struct MappingSearch: Sendable {
  private let map: RegionMap
  private let files: [FileIdentity]

  package init(map: RegionMap, files: [FileIdentity]) {
    self.map = map
    self.files = files
  }

  /// Mappings of the memory that are not among the processes' own. Only users of the same uid, and root's, are looked at: who
  /// else has the memfd has been given it, and others could keep us waiting.
  package func strangers(to list: ProcessList, gate: FairGate) -> [StrangeMapping] {
    identify(list.all, gate: gate)
    let found = look(list)
    // Some may have joined, or died and been dropped, just while they were looked at.
    if found.isEmpty { return [] }
    identify(list.all, gate: gate)
    return look(list).filter { again in found.contains { $0.process == again.process } }
  }

  private func look(_ list: ProcessList) -> [StrangeMapping] {
    let processes = list.all
    let handles = processes.compactMap(\.handle)
    var found: [StrangeMapping] = []
    for child in processes where child.isForked && !child.isRegistered {
      if let maps = child.handle.flatMap({ ProcessMaps(pid: $0.pid) }) { child.forgetUnmapped(maps, files: files) }
    }
    let reader = PatientReader()
    forEachUser(among: Set(handles.compactMap(\.user) + [0]), reader) { pid, maps in
      let own = list.all.filter { $0.handle?.pid == pid }
      // A child of vfork(2), or a thread group that shares the memory, goes through the registered mappings.
      if own.isEmpty, handles.contains(where: { Self.shareMemory(pid, $0.pid) }) { return }
      guard let maps else {
        if own.isEmpty {
          found.append(StrangeMapping(process: pid, name: Self.name(pid), isUsed: false, isGuess: true))
        }
        return
      }
      let strange = maps.mappings.filter { mapping in
        isOurs(mapping) && mapping.isAccessible && !own.contains { isKnown(mapping, $0.addresses) }
      }
      guard !strange.isEmpty else { return }
      found.append(StrangeMapping(process: pid, name: Self.name(pid), isUsed: Self.areUsed(strange, pid, reader)))
    }
    return found
  }

  private static func name(_ pid: Int32) -> String { ProcessFiles(pid: pid).text("comm")?.trimmingLine ?? "?" }

  /// Finds out who the children are whom so far only their userfaultfds tell of.
  ///
  /// A userfaultfd does not say whose it is. A page that is protected through it does: /proc/PID/pagemap shows the mark.
  package func identify(_ processes: [UserfaultProcess], gate: FairGate) {
    let children = processes.filter { $0.handle == nil && $0.isAlive }
    guard !children.isEmpty else { return }
    let known = Set(processes.compactMap { $0.handle?.pid })
    forEachUser(among: nil, PatientReader()) { pid, maps in
      guard let maps, !known.contains(pid) else { return }
      for child in children where child.handle == nil {
        guard hasMark(of: child, pid, gate) else { continue }
        child.forgetUnmapped(maps, files: files)
        do throws(SystemError) { child.identify(try ProcessHandle(pid: pid)) } catch {}  // dead
        return
      }
    }
    for child in children where child.handle == nil { child.checkMemory() }
  }

  /// Corrects a process's addresses by what it maps now: an earlier worker may have known of moves that are not written down.
  package func follow(_ process: UserfaultProcess) {
    guard let maps = process.handle.flatMap({ ProcessMaps(pid: $0.pid) }) else { return }
    process.forgetUnmapped(maps, files: files)
    for mapping in maps.mappings where mapping.isShared {
      for part in parts(of: mapping) { process.addIfUnmapped(part) }
    }
  }

  // MARK: Inside

  /// Calls `body` with every other process that maps one of the files, and, without its mappings, for every one that can't be
  /// looked into for now.
  private func forEachUser(
    among users: Set<UInt32>?, _ reader: PatientReader, _ body: (_ pid: Int32, _ maps: ProcessMaps?) -> Void
  ) {
    let needles = files.map { Array(" \(DeviceNumber.text($0.device)) \($0.inode) ".utf8) }
    for pid in ProcessFiles.allProcesses() where pid != getpid() {
      if let users {
        guard let user = ProcessFiles(pid: pid).user, users.contains(user) else { continue }
      }
      switch reader.read("maps", of: pid, limit: ProcessMaps.limit) {
      case .bytes(let text):
        if needles.contains(where: { memmem(text, text.count, $0, $0.count) != nil }) { body(pid, ProcessMaps(text)) }
      case .unreadable: break
      case .late: body(pid, nil)
      }
    }
  }

  private func isOurs(_ mapping: ProcessMaps.Mapping) -> Bool { !parts(of: mapping).isEmpty }

  /// Whether the process maps there what it has announced.
  private func isKnown(_ mapping: ProcessMaps.Mapping, _ addresses: AddressMap) -> Bool {
    mapping.isShared
      && parts(of: mapping).allSatisfy { part in
        let known = addresses.firstMapped(of: part.pages)
        return known?.address == part.address && known?.pages == part.pages
      }
  }

  /// The tenant's pages in a mapping.
  private func parts(of mapping: ProcessMaps.Mapping) -> [(address: UInt64, pages: PageRange)] {
    let end = mapping.offset + UInt64(mapping.addresses.count)
    return map.regions.compactMap { region in
      let file = files[region.file]
      guard file.inode == mapping.inode, file.device == mapping.device else { return nil }
      let offset = UInt64(map.geometry.bytes(inPages: region.firstFilePage))
      let first = max(mapping.offset, offset)
      let last = min(end, offset + UInt64(map.geometry.bytes(inPages: region.pages.count)))
      guard first < last else { return nil }
      let pages = map.geometry.pages(inBytes: first - offset)..<map.geometry.pages(inBytes: last - offset)
      return (
        mapping.addresses.lowerBound + (first - mapping.offset),
        (region.pages.lowerBound + pages.lowerBound)..<(region.pages.lowerBound + pages.upperBound)
      )
    }
  }

  /// Whether pages were touched through the mappings: /proc/PID/smaps tells their "Rss:". Where it may not be read, they were.
  private static func areUsed(_ mappings: [ProcessMaps.Mapping], _ pid: Int32, _ reader: PatientReader) -> Bool {
    guard case .bytes(let bytes) = reader.read("smaps", of: pid, limit: 16 * ProcessMaps.limit) else { return true }
    var isOurs = false
    for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") {
      if line.hasPrefix("Rss:") {
        if isOurs, line.contains(where: { ("1"..."9").contains($0) }) { return true }
      } else if line.first?.isUppercase == false, let mapping = ProcessMaps.parse(line) {
        isOurs = mappings.contains(mapping)
      }
    }
    return false
  }

  private static func shareMemory(_ one: Int32, _ other: Int32) -> Bool {
    do throws(SystemError) {
      let call = PrivilegedCall(.sharesMemory, process: one, limit: Int(other))
      return try Privileges.perform(call, operation: "comparing memories").number == 1
    } catch { return false }
  }

  /// Under the exclusive gate, so no move has just protected the page. (A window whose protection is still to be lifted has
  /// been moved already.)
  private func hasMark(of child: UserfaultProcess, _ pid: Int32, _ gate: FairGate) -> Bool {
    guard let place = child.addresses.mapped(PageIndex(0)..<PageIndex(map.pageCount)).first else { return false }
    let page = place.pages.lowerBound..<(place.pages.lowerBound + 1)
    var isMarked = false
    do throws(PortFailure) {
      var result = try gate.exclusive { () throws(PortFailure) in
        guard try child.protect(page) == .done else { return ProtectionResult.done }
        isMarked = Self.isProtected(place.address, pid, pageShift: map.geometry.pageShift)
        return try child.unprotect(page)
      }
      while result == .eventPending {  // to be read without our holding the gate
        usleep(Self.retryMicroseconds)
        result = try gate.exclusive { () throws(PortFailure) in try child.unprotect(page) }
      }
    } catch { return false }
    return isMarked
  }

  private static let retryMicroseconds: UInt32 = 50

  /// Bit 57 of a page's entry in /proc/PID/pagemap: write-protected through a userfaultfd (Documentation/admin-guide/mm/pagemap).
  private static func isProtected(_ address: UInt64, _ pid: Int32, pageShift: Int) -> Bool {
    do throws(SystemError) {
      let entry = try ProcessFiles(pid: pid).bytes("pagemap", limit: 8, offset: address >> UInt64(pageShift) * 8)
      return entry.count == 8 && entry[7] & 0b10 != 0
    } catch { return false }
  }
}
