package import Domain

package struct SimulatedStaging: StagingMemory {
  let kernel: SimulatedKernel

  package func isZero(_ page: PageIndex) -> Bool {
    kernel.enter("staging.isZero(\(page))")
    return kernel.readStaging(page) == 0
  }

  package func checksum(of page: PageIndex) -> PageChecksum {
    kernel.enter("staging.checksum(\(page))")
    return kernel.checksum(of: kernel.readStaging(page))
  }

  package func reserve(_ pages: Int) -> Bool {
    kernel.enter("staging.reserve(\(pages))")
    let used = kernel.staging.reduce(0) { $0 + ($1 == nil ? 0 : 1) }
    kernel.reservedPages = used + pages > kernel.stagingLimit && pages > 0 ? nil : pages
    return kernel.reservedPages != nil
  }

  package func release(_ pages: PageRange) throws(PortFailure) {
    kernel.enter("staging.release(\(pages.text))")
    if !kernel.stagingExists { kernel.fail("staging memory is given back, and there is none") }
    try kernel.mayFail(.releaseStaging, ErrorNumber.inputOutput)
    for page in pages { kernel.staging[page.rawValue] = nil }
    if kernel.defects.contains(.releaseTakesOneMore), pages.upperBound.rawValue < kernel.map.pageCount {
      kernel.staging[pages.upperBound.rawValue] = nil
    }
  }
}
