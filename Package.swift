// swift-tools-version: 6.2
import PackageDescription

/// Every target: no warning is left standing, existentials are spelled out.
let common: [SwiftSetting] = [
  .treatAllWarnings(as: .error),
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("InternalImportsByDefault"),
]

/// Domain and App hold no unsafe code, and the compiler proves it. Adapters talks to the kernel and is where it lives.
let safe = common + [.strictMemorySafety()]

/// Unlocks the GNU part of libc (memfd_create, SEEK_DATA, fallocate, preadv2, ...) for the Glibc module importer.
let gnu: [CSetting] = [.define("_GNU_SOURCE")]

/// The functions of libc that a test counts the calls of.
let counted = ["malloc", "calloc", "realloc", "memalign", "aligned_alloc", "posix_memalign"]

let package = Package(
  name: "swap-monitor",
  products: [
    .executable(name: "swap-monitor", targets: ["App"]),
    .library(name: "AllocationCounter", type: .dynamic, targets: ["AllocationCounter"]),  // for a test
  ],
  targets: [
    .target(name: "Domain", swiftSettings: safe),
    .target(
      name: "Adapters", dependencies: ["Domain"], cSettings: gnu,
      swiftSettings: common + [.enableExperimentalFeature("Extern")]),
    .executableTarget(name: "App", dependencies: ["Adapters", "Domain"], swiftSettings: safe),

    .systemLibrary(name: "KernelHeaders", path: "Tests/KernelHeaders"),
    .target(
      name: "TestSupport", dependencies: ["Domain"], path: "Tests/Support", cSettings: gnu, swiftSettings: common),
    .target(
      name: "AllocationCounter", path: "Tests/AllocationCounter",
      // What debug builds add, checks of exclusive access above all, would allocate in the middle of an allocation.
      swiftSettings: common + [
        .enableExperimentalFeature("Extern"), .unsafeFlags(["-O", "-enforce-exclusivity=unchecked"]),
      ],
      linkerSettings: [.unsafeFlags(counted.flatMap { ["-Xlinker", "--defsym=\($0)=counting_\($0)"] })]),
    .testTarget(name: "DomainTests", dependencies: ["Domain", "TestSupport"], cSettings: gnu, swiftSettings: common),
    .testTarget(
      name: "AdaptersTests", dependencies: ["Adapters", "Domain", "TestSupport", "KernelHeaders"], cSettings: gnu,
      swiftSettings: common + [.enableExperimentalFeature("Extern")]),
    .testTarget(
      name: "AppTests", dependencies: ["App", "Adapters", "Domain", "TestSupport"],
      exclude: ["Corpus"], cSettings: gnu,
      swiftSettings: common),
  ]
)
