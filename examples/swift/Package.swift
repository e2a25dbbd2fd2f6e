// swift-tools-version:6.1
import PackageDescription

let package = Package(
  name: "ask",
  dependencies: [.package(name: "graft", path: "../..")],
  targets: [.executableTarget(name: "Ask", dependencies: [.product(name: "GraftLibrary", package: "graft")])]
)
