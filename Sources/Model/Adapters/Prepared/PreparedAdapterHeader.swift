import Formats
import Foundation
import Kernels

/// The header of an adapter's prepared file. After the header come zeros up to a cache line, then the bytes of
/// `AdapterLayout`, to the file's end: where each part lies follows from the entries and the base's sizes.
struct PreparedAdapterHeader: Codable, Equatable {
  /// Raised with every change of layout; part of the file's name, so that files of an older layout are prepared again.
  static let currentVersion = 1
  static let codec = HeaderCodec(magic: "GRAFTLRA", version: currentVersion, kind: "adapter")

  /// The hash that `AdapterContents` gives the adapter's files.
  var contents: String
  /// The base's fingerprint: the entries' sizes are the base's, and its weights make DoRA's row factors.
  var base: String
  var element: String
  var usesDoRA: Bool
  var entries: [AdapterLayout.Entry]
  /// Norms, embedding and head; absent if the adapter changes projections only.
  var others: OtherEntries?
  /// XXH3 of all that follows the header's zeros.
  var checksum: String

  private enum CodingKeys: String, CodingKey {
    case contents, base, element, usesDoRA, others, checksum
    case entries = "modules"
  }

  /// Where the layout's bytes begin in a file whose encoded header has `headerLength` bytes.
  static func dataStart(_ headerLength: Int) -> Int { LowRankLayout.aligned(headerLength) }

  /// The layout of the entries, each of which must fit the base.
  /// - Parameter subject: what errors name
  /// - Throws: `ModelError` for an entry that does not fit
  func layout(_ config: ModelConfig, element: LowRankFactors.Element, subject: String) throws -> AdapterLayout {
    guard !entries.isEmpty || others?.isEmpty == false else { throw ModelError(subject, reason: "no modules") }
    if let problem = others?.problem(config) { throw ModelError(subject, problem, reason: "does not fit the base") }
    for (index, entry) in entries.enumerated() {
      let isInOrder = index == 0 || entries[index - 1].order < entry.order
      guard isInOrder, 0..<config.layerCount ~= entry.layer, 1...PEFTConfig.maximumServedRank ~= entry.rank,
        config.projections.contains(entry.projection), entry.scale.isFinite,
        AdapterLayout.Extras.all.isSuperset(of: entry.extras),
        !entry.extras.contains(.inputChanges) || entry.projection.isAlone(config)
      else { throw ModelError(subject, "module \(index)", reason: "does not fit the base") }
    }
    return AdapterLayout(entries, others: others, config: config, element: element, usesDoRA: usesDoRA)
  }
}

/// Encoded as [layer, projection, rank, bits of the scale], and the extras if there are any: hundreds of entries are decoded whenever an adapter is loaded.
extension AdapterLayout.Entry: Codable {
  fileprivate var order: (Int, Int) { (layer, projection.order) }

  init(from decoder: any Decoder) throws {
    var fields = try decoder.unkeyedContainer()
    layer = try fields.decode(Int.self)
    let index = try fields.decode(Int.self)
    guard Projection.allCases.indices.contains(index) else {
      throw DecodingError.dataCorruptedError(in: fields, debugDescription: "no module \(index)")
    }
    projection = Projection.allCases[index]
    rank = try fields.decode(Int.self)
    scale = Float(bitPattern: try fields.decode(UInt32.self))
    extras = fields.isAtEnd ? [] : AdapterLayout.Extras(rawValue: try fields.decode(Int.self))
  }

  func encode(to encoder: any Encoder) throws {
    var fields = encoder.unkeyedContainer()
    try fields.encode(layer)
    try fields.encode(projection.index)
    try fields.encode(rank)
    try fields.encode(scale.bitPattern)
    if !extras.isEmpty { try fields.encode(extras.rawValue) }
  }
}
