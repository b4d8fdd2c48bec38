internal import Glibc
internal import Synchronization

/// Memory of a tortured tenant, as one of its processes maps it.
package final class TortureMemory: Sendable {
  package let layout: TortureLayout
  package let file: Descriptor
  private let mapping: MemoryMapping
  var wordsPerPage: Int { layout.geometry.pageBytes / 8 }

  package var address: UInt64 { UInt64(UInt(bitPattern: mapping.address)) }
  package var bytes: Int { mapping.count }

  /// - Parameter path: leads to the file: /proc/PID/fd/NUMBER of who made it.
  package init(path: String, layout: TortureLayout) throws(SystemError) {
    file = try Descriptor(opening: path, O_RDWR, operation: "opening the guest memory")
    mapping = try MemoryMapping(
      of: file, bytes: layout.geometry.bytes(inPages: layout.pageCount), writable: true,
      operation: "mapping the guest memory")
    self.layout = layout
  }

  /// Writes what stands in the pages before any counter.
  package func fill() {
    for page in layout.shared.map({ Int($0) }) {
      word(page, 0).pointee.store(layout.constant(of: page), ordering: .relaxed)
      word(page, wordsPerPage - 1).pointee.store(layout.constant(of: page), ordering: .relaxed)
    }
    for page in layout.cold {
      for index in 0..<wordsPerPage {
        word(page, index).pointee.store(layout.constant(of: page), ordering: .relaxed)
      }
    }
  }

  /// A word as all threads of all processes use it: read and written whole.
  @inline(__always)
  func word(_ page: Int, _ index: Int) -> UnsafeMutablePointer<Atomic<UInt64>> {
    // Safety: inside the mapping, and aligned; `Atomic` has its value's layout. The memory is touched through these alone.
    (mapping.address + layout.geometry.bytes(inPages: page) + index * 8).assumingMemoryBound(to: Atomic<UInt64>.self)
  }

  func remove(_ pages: Range<Int>) throws(SystemError) {
    let start = mapping.address + layout.geometry.bytes(inPages: pages.lowerBound)
    try checked("madvise(MADV_REMOVE)") { madvise(start, layout.geometry.bytes(inPages: pages.count), MADV_REMOVE) }
  }
}
