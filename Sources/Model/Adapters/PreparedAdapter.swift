import Formats
import Foundation
import Kernels

/// What an adapter's prepared file says of itself. After the front come zeros up to a cache line, then the bytes of
/// `AdapterLayout`, to the file's end: where each part lies follows from the modules and the base's sizes.
struct PreparedAdapterHeader: Codable, Equatable {
  /// Raised with every change of layout; part of the file's name, so that old files are made anew.
  static let currentVersion = 1
  static let front = PreparedFront(magic: "GRAFTLRA", version: currentVersion, kind: "adapter")

  /// `AdapterContents`' hash of the adapter's files.
  var contents: String
  /// The base's fingerprint: its sizes are the modules', and its weights make DoRA's row factors.
  var base: String
  var element: String
  var usesDoRA: Bool
  var modules: [AdapterLayout.Module]
  /// XXH3 of all that follows the front's zeros.
  var checksum: String

  /// Where the modules' bytes begin in a file whose front has so many bytes.
  static func dataStart(_ frontLength: Int) -> Int { LowRankLayout.aligned(frontLength) }

  /// The layout of the modules, once each of them fits the base.
  /// - Throws: `ModelError` naming `subject`
  func layout(_ config: ModelConfig, element: LowRankFactors.Element, subject: String) throws -> AdapterLayout {
    guard !modules.isEmpty else { throw ModelError(subject, reason: "no modules") }
    for (index, module) in modules.enumerated() {
      let isInOrder = index == 0 || modules[index - 1].order < module.order
      guard isInOrder, 0..<config.layerCount ~= module.layer, 1...PEFTConfig.maximumRank ~= module.rank,
        module.scale.isFinite
      else { throw ModelError(subject, "module \(index)", reason: "does not fit the base") }
    }
    return AdapterLayout(modules, config: config, element: element, usesDoRA: usesDoRA)
  }
}

/// As [layer, module, rank, bits of the scale]: hundreds of them are read whenever an adapter is brought into memory.
extension AdapterLayout.Module: Codable {
  fileprivate var order: (Int, Int) { (layer, linear.index) }

  init(from decoder: any Decoder) throws {
    var fields = try decoder.unkeyedContainer()
    layer = try fields.decode(Int.self)
    let index = try fields.decode(Int.self)
    guard LinearModule.allCases.indices.contains(index) else {
      throw DecodingError.dataCorruptedError(in: fields, debugDescription: "no module \(index)")
    }
    linear = LinearModule.allCases[index]
    rank = try fields.decode(Int.self)
    scale = Float(bitPattern: try fields.decode(UInt32.self))
  }

  func encode(to encoder: any Encoder) throws {
    var fields = encoder.unkeyedContainer()
    try fields.encode(layer)
    try fields.encode(linear.index)
    try fields.encode(rank)
    try fields.encode(scale.bitPattern)
  }
}
