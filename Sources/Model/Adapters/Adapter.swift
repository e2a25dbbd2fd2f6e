public import Kernels

/// A LoRA adapter (Hu et al., 2021) in the kernels' layout: immutable, applied beside the base, never merged.
public final class Adapter: Sendable {
  /// y += scale · B · (A · x) for one linear module.
  public struct Module: Sendable {
    /// [rank, in_features]
    public let a: Matrix
    /// [out_features, rank]
    public let b: Matrix
    public let rank: Int
    /// α/r, or α/√r for rsLoRA.
    public let scale: Float

    public init(a: Matrix, b: Matrix, rank: Int, scale: Float) {
      self.a = a
      self.b = b
      self.rank = rank
      self.scale = scale
    }
  }

  /// SHA-256 of what the adapter computes, in hexadecimal: configuration and tensors.
  public let contentHash: String
  /// For each layer, the modules that the adapter changes.
  public let layers: [[LinearModule: Module]]
  public let bytes: Int

  public init(contentHash: String, layers: [[LinearModule: Module]]) {
    self.contentHash = contentHash
    self.layers = layers
    bytes = layers.reduce(0) { sum, modules in
      sum
        + modules.values.reduce(0) { $0 + ($1.a.paddedOutputs * $1.a.columns + $1.b.paddedOutputs * $1.b.columns) * 4 }
    }
  }
}

/// The adapters of one request with their weights, in the order in which they are summed.
public struct AdapterSet: Sendable, Equatable {
  public struct Term: Sendable {
    public let adapter: Adapter
    public let weight: Float
  }

  public let terms: [Term]

  /// Terms are put in the order of their content hashes, so that the order of naming changes no bit.
  public init(_ terms: [(adapter: Adapter, weight: Float)] = []) {
    self.terms = terms.map { Term(adapter: $0.adapter, weight: $0.weight) }
      .sorted { ($0.adapter.contentHash, $0.weight) < ($1.adapter.contentHash, $1.weight) }
  }

  /// The bare base.
  public static let none = AdapterSet()

  public static func == (a: AdapterSet, b: AdapterSet) -> Bool {
    a.terms.elementsEqual(b.terms) { $0.adapter.contentHash == $1.adapter.contentHash && $0.weight == $1.weight }
  }
}
