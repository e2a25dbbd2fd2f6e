import Formats
import Kernels

/// The header of a prepared base's file. After the header come zeros up to a page, then the sections of weights, each on
/// pages of its own, in the order in which a forward pass reads them.
struct PreparedBaseHeader: Codable, Equatable {
  struct Section: Codable, Equatable {
    var name: String
    var offset: Int
    var length: Int
    /// XXH3 of the section's bytes; zeros while the file is being written.
    var checksum: String
    /// The f16 scales of this section are in units of two to this power; `nil` for sections of other contents.
    var exponent: Int?
  }

  /// Raised with every change of layout; part of the file's name, so that files of an older layout are prepared again.
  static let currentVersion = 7
  static let codec = HeaderCodec(magic: "GRAFTNF4", version: currentVersion, kind: "base")
  static let pageSize = 4096

  var config: ModelConfig
  /// SHA-256 over the published model's files.
  var sourceHash: String
  var fingerprint: String
  var sections: [Section]
}

/// The sections of a prepared base, with their contents and sizes. Both writing and reading use this list.
struct PreparedBaseLayout {
  enum Content: Equatable {
    /// NF4 codes of a stack in tile order; `block` columns share a scale.
    case codes(stack: [Projection], layer: Int, block: Int)
    /// f32 absmax of a stack, [group][column / block][16].
    case scales(stack: [Projection], layer: Int, block: Int)
    /// The same in f16.
    case halfScales(stack: [Projection], layer: Int, block: Int)
    /// A stack as f32 values, [group][column][16]: its columns are no multiple of 8, or the published model leaves one of its
    /// projections unquantised. Projections in NF4 are dequantised for it.
    case dense(stack: [Projection], layer: Int)
    /// The f32 weights of a norm, as many as `count` says.
    case vector(String, count: Int)
    /// The biases of a stack in f32, [outputs]; zeros where a projection has none and between projections.
    case bias(stack: [Projection], layer: Int)
    /// A matrix as published, in f32: [group][column][16].
    case exact(String)
    /// The output head in signed bytes, [group][column pair][16][2].
    case headBytes(String, block: Int)
    /// The head's f16 scales, [group][column / block][16].
    case headScales(String, block: Int)

    /// Whether the contents are f16 scales.
    var isHalf: Bool {
      switch self {
      case .halfScales, .headScales: true
      default: false
      }
    }
  }

  /// A section: its name, its contents, and its length in bytes.
  struct Entry {
    var name: String
    var content: Content
    var length: Int
  }

  let entries: [Entry]

  /// - Parameter storage: how the published model stores a projection's weight, by the weight's name
  init(_ config: ModelConfig, storage: (String) -> WeightStorage) {
    var entries: [Entry] = []
    func vector(_ name: String, count: Int) {
      entries.append(Entry(name: name, content: .vector(name, count: count), length: count * 4))
    }
    func norms(_ norms: [LayerNorm], _ layer: Int) {
      for norm in norms {
        if let name = config.name(of: norm, layer: layer) { vector(name, count: config.size(of: norm)) }
      }
    }
    func exact(_ name: String) {
      let count = TileLayout.denseCount(outputs: config.vocabularySize, columns: config.hiddenSize)
      entries.append(Entry(name: name, content: .exact(name), length: count * 4))
    }
    exact(Self.embedding)
    for layer in 0..<config.layerCount {
      for place in ProjectionStack.allCases {
        let stack = place.projections(config)
        norms(place.normsBefore, layer)
        defer { norms(place.normsAfter, layer) }
        let outputs = StackedWeights.layout(stack, config).outputs
        let columns = stack[0].shape(config).input
        let name = Self.stackName(stack, layer)
        if stack.contains(where: config.architecture.biases.contains) {
          entries.append(
            Entry(name: name + ".bias", content: .bias(stack: stack, layer: layer), length: outputs * 4))
        }
        let kinds = stack.map { storage($0.fullName(layer: layer) + ".weight") }
        guard let block = Self.scaleBlock(kinds, columns: columns) else {
          let length = TileLayout.denseCount(outputs: outputs, columns: columns) * 4
          entries.append(Entry(name: name, content: .dense(stack: stack, layer: layer), length: length))
          continue
        }
        entries.append(
          Entry(
            name: name + ".codes", content: .codes(stack: stack, layer: layer, block: block),
            length: TileLayout.codeBytes(outputs: outputs, columns: columns)))
        let scaleCount = TileLayout.scaleCount(outputs: outputs, columns: columns, block: block)
        entries.append(
          Entry(
            name: name + ".absmax", content: .scales(stack: stack, layer: layer, block: block),
            length: scaleCount * 4))
        entries.append(
          Entry(
            name: name + ".absmax16", content: .halfScales(stack: stack, layer: layer, block: block),
            length: scaleCount * 2))
      }
    }
    vector(Self.finalNorm, count: config.hiddenSize)
    if !config.tiedHead { exact(Self.head) }
    if let block = TileLayout.scaleBlock(columns: config.hiddenSize, blockSize: 64) {
      let source = config.tiedHead ? Self.embedding : Self.head
      let (outputs, columns) = (config.vocabularySize, config.hiddenSize)
      entries.append(
        Entry(
          name: Self.headBytes, content: .headBytes(source, block: block),
          length: TileLayout.denseCount(outputs: outputs, columns: columns)))
      entries.append(
        Entry(
          name: Self.headScales, content: .headScales(source, block: block),
          length: TileLayout.scaleCount(outputs: outputs, columns: columns, block: block) * 2))
    }
    self.entries = entries
  }

  /// How many columns share a scale in every projection of a stack; `nil` if the stack is kept as values.
  private static func scaleBlock(_ kinds: [WeightStorage], columns: Int) -> Int? {
    var blockSize = Int.max
    for kind in kinds {
      switch kind {
      case .plain: blockSize = min(blockSize, NF4.blockSize)
      case .nf4(let size): blockSize = min(blockSize, size)
      case .exact: return nil
      }
    }
    return TileLayout.scaleBlock(columns: columns, blockSize: blockSize)
  }

  static let embedding = "model.embed_tokens.weight"
  static let finalNorm = "model.norm.weight"
  static let head = "lm_head.weight"
  static let headBytes = "lm_head.int8"
  static let headScales = "lm_head.int8.scale16"
  static func stackName(_ stack: [Projection], _ layer: Int) -> String {
    "model.layers.\(layer)." + stack.map(\.shortName).joined(separator: "+")
  }
}

extension ProjectionStack {
  /// The norms that a forward pass reads just before the stack.
  fileprivate var normsBefore: [LayerNorm] {
    switch self {
    case .queryKeyValue: [.attentionInput]
    case .gateUp: [.attentionOutput, .feedForwardInput]
    case .output, .down: []
    }
  }

  /// The norms that it reads just after the stack, if no other stack follows that reads them before.
  fileprivate var normsAfter: [LayerNorm] {
    switch self {
    case .queryKeyValue: [.queries, .keys]
    case .down: [.feedForwardOutput]
    case .output, .gateUp: []
    }
  }
}
