/// What the daemon was doing when the kernel said no.
package enum PortOperation: String, Sendable {
  case readGuestMemory = "reading guest memory"
  case findGuestData = "listing the guest memory's data (SEEK_DATA)"
  case punchGuestMemory = "punching guest memory"
  case restoreGuestMemory = "writing a page back to guest memory"
  case findStagedCopies = "listing the staged copies (SEEK_DATA)"
  case readStaging = "reading staging memory"
  case writeStaging = "writing staging memory"
  case releaseStaging = "freeing staging memory"
  case createStaging = "creating staging memory"
  case writeSwapFile = "writing the swap file"
  case readSwapFile = "reading the swap file"
  case limitSwapFile = "keeping the tenant's swap file within its limit"
  case limitAllSwapFiles = "keeping all swap files within their limit"
  case flushSwapFile = "flushing the swap file"
  case punchSwapFile = "giving back disk space of the swap file"
  case truncateSwapFile = "emptying the swap file"
  case checkFreeDisk = "looking up the free space for the swap file"
  case registerRange = "registering memory with the userfaultfd"
  case unregisterRange = "unregistering memory from the userfaultfd"
  case protectRange = "write-protecting memory"
  case installPage = "installing a page"
  case readEvents = "reading the userfaultfd"
  case pauseMachine = "pausing the virtual machine through its monitor"
  case stopProcess = "stopping a process"
  case inspectProcess = "reading a process's state in /proc"
}

/// A call of an adapter that failed: the operation and the kernel's error number.
package struct PortFailure: Error, Equatable, Sendable {
  package let operation: PortOperation
  package let errorNumber: Int32

  package init(_ operation: PortOperation, errorNumber: Int32) {
    self.operation = operation
    self.errorNumber = errorNumber
  }
}
