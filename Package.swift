// swift-tools-version:6.1
import PackageDescription

/// Every Swift target builds in language mode 6, so concurrency checking is complete; imports are
/// internal unless said otherwise, so that a C type cannot leak into a public interface.
let swiftSettings: [SwiftSetting] = [
  .swiftLanguageMode(.v6),
  .enableUpcomingFeature("InternalImportsByDefault"),
  .enableUpcomingFeature("MemberImportVisibility"),
  .enableUpcomingFeature("ExistentialAny"),
]

let package = Package(
  name: "graft",
  products: [
    .executable(name: "graft", targets: ["graft"]),
    // For programs that use a model without a server: LocalModel, and what it takes and gives.
    .library(name: "GraftLibrary", targets: ["Serve", "Model"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
    .package(url: "https://github.com/apple/swift-log", from: "1.16.0"),
    .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
  ],
  targets: [
    // C: micro-kernels, a signal's handler, and the system libraries behind headers of inline functions.
    .target(name: "CKernels"),
    .target(name: "CBusError"),
    .systemLibrary(name: "CMalloc"),
    .systemLibrary(name: "CXXHash", pkgConfig: "libxxhash", providers: [.apt(["libxxhash-dev"])]),
    .systemLibrary(name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
    .systemLibrary(name: "COpenSSL", pkgConfig: "libcrypto", providers: [.apt(["libssl-dev"])]),
    .systemLibrary(name: "CYAML", pkgConfig: "yaml-0.1", providers: [.apt(["libyaml-dev"])]),
    .systemLibrary(name: "CEdit", pkgConfig: "libedit", providers: [.apt(["libedit-dev"])]),
    .systemLibrary(name: "CPCRE2", pkgConfig: "libpcre2-8", providers: [.apt(["libpcre2-dev"])]),
    .systemLibrary(name: "COpenBLAS", pkgConfig: "openblas", providers: [.apt(["libopenblas-dev"])]),
    .systemLibrary(
      name: "CLibevent", pkgConfig: "libevent_openssl", providers: [.apt(["libevent-dev", "libssl-dev"])]),

    // Writes a source file of `graft` with the commit that is built.
    .plugin(name: "ReadCommit", capability: .buildTool()),

    // Swift, each target importing only what stands above it here.
    .target(name: "Template", swiftSettings: swiftSettings),
    .target(name: "Console", dependencies: ["CZlib"], resources: [.embedInCode("Files")], swiftSettings: swiftSettings),
    .target(name: "Kernels", dependencies: ["CKernels", "COpenBLAS"], swiftSettings: swiftSettings),
    .target(
      name: "Formats", dependencies: ["Kernels", "CBusError", "CXXHash", "COpenSSL"], swiftSettings: swiftSettings),
    .target(name: "Client", dependencies: ["Formats"], swiftSettings: swiftSettings),
    .target(name: "Grammars", dependencies: ["Formats"], swiftSettings: swiftSettings),
    .target(name: "Tokenization", dependencies: ["Formats", "CPCRE2"], swiftSettings: swiftSettings),
    .target(
      name: "Model", dependencies: ["Tokenization", "Formats", "Kernels", "Template", "CPCRE2"],
      swiftSettings: swiftSettings),
    .target(
      name: "Train", dependencies: ["Model", "Tokenization", "Formats", "Kernels"], swiftSettings: swiftSettings),
    .target(
      name: "Serve",
      dependencies: [
        "Train", "Model", "Grammars", "Tokenization", "Formats", "Kernels", "Console", "CLibevent", "CMalloc",
        .product(name: "Logging", package: "swift-log"), .product(name: "GRDB", package: "GRDB.swift"),
      ],
      swiftSettings: swiftSettings),
    .executableTarget(
      name: "graft",
      dependencies: [
        "Serve", "Train", "Model", "Grammars", "Tokenization", "Formats", "Kernels", "Client", "CYAML", "CEdit",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
        .product(name: "Logging", package: "swift-log"),
      ],
      swiftSettings: swiftSettings, plugins: ["ReadCommit"]),

    .testTarget(
      name: "TemplateTests", dependencies: ["Template", "TestSupport"], resources: [.copy("Fixtures")],
      swiftSettings: swiftSettings),
    .testTarget(
      name: "KernelsTests", dependencies: ["Kernels", "Formats", "Model", "TestSupport"],
      resources: [.copy("Fixtures")],
      swiftSettings: swiftSettings),
    .target(
      name: "TestSupport", dependencies: ["Model", "Tokenization", "Formats", "Kernels"], path: "Tests/TestSupport",
      swiftSettings: swiftSettings),
    .testTarget(
      name: "FormatsTests", dependencies: ["Formats", "Kernels", "TestSupport"], exclude: ["Fixtures"],
      swiftSettings: swiftSettings),
    .testTarget(
      name: "GrammarsTests", dependencies: ["Grammars", "Formats"], exclude: ["Fixtures"],
      swiftSettings: swiftSettings),
    .testTarget(
      name: "TokenizationTests", dependencies: ["Tokenization", "Formats", "TestSupport"], exclude: ["Fixtures"],
      swiftSettings: swiftSettings),
    .testTarget(
      name: "ModelTests", dependencies: ["Model", "Tokenization", "Formats", "Kernels", "TestSupport"],
      exclude: ["Fixtures"], swiftSettings: swiftSettings),
    .testTarget(
      name: "TrainTests", dependencies: ["Train", "Model", "Tokenization", "Formats", "Kernels", "TestSupport"],
      resources: [.copy("Fixtures")],
      swiftSettings: swiftSettings),
    .testTarget(
      name: "CommandTests",
      dependencies: [
        "graft", "Client", "Train", "Formats", .product(name: "ArgumentParser", package: "swift-argument-parser"),
        .product(name: "Logging", package: "swift-log"),
      ],
      swiftSettings: swiftSettings),
    .testTarget(
      name: "ServeTests",
      dependencies: [
        "Serve", "Train", "Model", "Grammars", "Tokenization", "Formats", "Kernels", "Console", "CLibevent",
        "TestSupport",
        .product(name: "GRDB", package: "GRDB.swift"),
        .product(name: "Logging", package: "swift-log"),
      ],
      swiftSettings: swiftSettings),
  ]
)
