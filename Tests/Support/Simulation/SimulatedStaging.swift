package import Domain

package struct SimulatedStaging: StagingMemory {
  let kernel: SimulatedKernel

  package struct Content: StagedContent {
    package let isZero: Bool
    package let checksum: PageChecksum
  }

  package func examine(_ pages: PageRange, _ body: (PageIndex, Content) -> Void) throws(PortFailure) {
    kernel.enter("staging.examine(\(pages.text))")
    try kernel.mayFail(.readStaging, ErrorNumber.noMemory)
    for page in pages {
      let token = kernel.readStaging(page)
      kernel.perhapsYield()
      body(page, Content(isZero: token == 0, checksum: kernel.checksum(of: token)))
    }
  }

  package func withCopies<Result>(
    of pages: PageRange, _ body: (SimulatedBuffer, PageRange) throws(PortFailure) -> Result
  ) throws(PortFailure) -> Result {
    kernel.enter("staging.withCopies(\(pages.text))")
    try kernel.mayFail(.readStaging, ErrorNumber.noMemory)
    let part = pages.prefix(1 + kernel.random.below(pages.count))
    let buffer = SimulatedBuffer(kernel: kernel, capacityPages: part.count)
    for (number, page) in part.enumerated() {
      buffer[number] = kernel.staging[page.rawValue] ?? kernel.garbage()
      kernel.perhapsYield()
    }
    return try body(buffer, part)
  }

  package func reserve(_ pages: Int) -> Bool {
    kernel.enter("staging.reserve(\(pages))")
    let used = kernel.staging.reduce(0) { $0 + ($1 == nil ? 0 : 1) }
    kernel.reservedPages = used + pages > kernel.stagingLimit && pages > 0 ? nil : pages
    return kernel.reservedPages != nil
  }

  package func nextCopies(in range: PageRange) throws(PortFailure) -> PageRange? {
    kernel.enter("staging.nextCopies(\(range.text))")
    if kernel.defect == .forgottenCopiesStay { return nil }
    guard let first = range.first(where: { kernel.staging[$0.rawValue] != nil }) else { return nil }
    var end = first + 1
    while end < range.upperBound, kernel.staging[end.rawValue] != nil { end = end + 1 }
    return first..<end
  }

  package func release(_ pages: PageRange) throws(PortFailure) {
    kernel.enter("staging.release(\(pages.text))")
    if !kernel.stagingExists { kernel.fail("staging memory is given back, and there is none") }
    try kernel.mayFail(.releaseStaging, ErrorNumber.inputOutput)
    for page in pages { kernel.staging[page.rawValue] = nil }
    if kernel.defect == .releaseTakesOneMore, pages.upperBound.rawValue < kernel.map.pageCount {
      kernel.staging[pages.upperBound.rawValue] = nil
    }
  }
}
