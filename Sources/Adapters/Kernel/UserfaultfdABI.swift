/// The userfaultfd's ABI, by the names of <linux/userfaultfd.h>; a test proves each number and layout against that header.
enum UFFD {
  static let API: UInt64 = 0xAA

  static let USERFAULTFD_IOC_NEW: UInt = 0xAA00
  static let UFFDIO_API: UInt = 0xC018_AA3F
  static let UFFDIO_REGISTER: UInt = 0xC020_AA00
  static let UFFDIO_UNREGISTER: UInt = 0x8010_AA01
  static let UFFDIO_WAKE: UInt = 0x8010_AA02
  static let UFFDIO_COPY: UInt = 0xC028_AA03
  static let UFFDIO_ZEROPAGE: UInt = 0xC020_AA04
  static let UFFDIO_WRITEPROTECT: UInt = 0xC018_AA06
  static let UFFDIO_CONTINUE: UInt = 0xC020_AA07
  static let UFFDIO_POISON: UInt = 0xC020_AA08

  static let USER_MODE_ONLY: Int32 = 1
  static let FEATURE_EVENT_FORK: UInt64 = 1 << 1
  static let FEATURE_EVENT_REMAP: UInt64 = 1 << 2
  static let FEATURE_EVENT_REMOVE: UInt64 = 1 << 3
  static let FEATURE_EVENT_UNMAP: UInt64 = 1 << 6
  static let FEATURE_SIGBUS: UInt64 = 1 << 7
  static let FEATURE_WP_HUGETLBFS_SHMEM: UInt64 = 1 << 12
  static let FEATURE_POISON: UInt64 = 1 << 14
  static let FEATURE_WP_ASYNC: UInt64 = 1 << 15
  /// Internal to the kernel, and shown in fdinfo: the handshake is done (fs/userfaultfd.c, UFFD_FEATURE_INITIALIZED).
  static let FEATURE_INITIALIZED: UInt64 = 1 << 31

  static let REGISTER_MODE_MISSING: UInt64 = 1 << 0
  static let REGISTER_MODE_WP: UInt64 = 1 << 1
  static let REGISTER_MODE_MINOR: UInt64 = 1 << 2
  static let WRITEPROTECT_MODE_WP: UInt64 = 1 << 0
  /// Bit numbers of the ioctls that a registered range allows.
  static let IOCTL_WRITEPROTECT: UInt64 = 1 << 6

  static let EVENT_PAGEFAULT: UInt8 = 0x12
  static let EVENT_FORK: UInt8 = 0x13
  static let EVENT_REMAP: UInt8 = 0x14
  static let EVENT_REMOVE: UInt8 = 0x15
  static let EVENT_UNMAP: UInt8 = 0x16
  static let PAGEFAULT_FLAG_WP: UInt64 = 1 << 1
}

/// `struct uffd_msg`, 32 bytes. The union's words: for a page fault flags and address, for a remove or an
/// unmap start and end, for a remap from, to and length, for a fork the child's userfaultfd (32 bits).
struct uffd_msg {
  var event: UInt8 = 0
  var reserved1: UInt8 = 0
  var reserved2: UInt16 = 0
  var reserved3: UInt32 = 0
  var argument0: UInt64 = 0
  var argument1: UInt64 = 0
  var argument2: UInt64 = 0
}

struct uffdio_api {
  var api: UInt64
  var features: UInt64
  var ioctls: UInt64 = 0
}

struct uffdio_range {
  var start: UInt64
  var len: UInt64
}

struct uffdio_register {
  var range: uffdio_range
  var mode: UInt64
  var ioctls: UInt64 = 0
}

struct uffdio_copy {
  var dst: UInt64
  var src: UInt64
  var len: UInt64
  var mode: UInt64 = 0
  var copy: Int64 = 0
}

/// Of the same shape: `uffdio_zeropage`, `uffdio_continue` and `uffdio_poison`.
struct uffdio_fill {
  var range: uffdio_range
  var mode: UInt64 = 0
  var filled: Int64 = 0
}

struct uffdio_writeprotect {
  var range: uffdio_range
  var mode: UInt64
}
