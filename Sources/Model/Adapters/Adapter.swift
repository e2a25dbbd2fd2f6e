public import Formats
public import Kernels

/// A LoRA or DoRA adapter (Hu et al., 2021; Liu et al., 2024) in the kernels' layout: immutable, applied beside the base,
/// never merged into it.
public final class Adapter: Sendable {
  /// What the adapter adds to one projection: y += scale · B · (A · x), and DoRA's factor for each output.
  public struct Update: Sendable {
    /// A, B and DoRA's row factors, rounded as the compute mode wants them.
    public let factors: LowRankFactors
    /// α/r, or α/√r for rsLoRA.
    public let scale: Float

    /// - Parameters: as the properties
    public init(factors: LowRankFactors, scale: Float) {
      self.factors = factors
      self.scale = scale
    }
  }

  /// Names what the adapter computes: the hash that `AdapterContents` gives its files. Adapters that have no files get a
  /// name of their own.
  public let contentHash: String
  /// Memory of all factors, in bytes.
  public let bytes: Int
  /// [layer][projection]; `nil` where the adapter changes nothing.
  private let updates: [Update?]

  /// - Parameters:
  ///   - layerCount: the base's
  ///   - updates: at most one for each projection of a layer below `layerCount`
  public init(contentHash: String, layerCount: Int, updates: [(layer: Int, projection: Projection, update: Update)]) {
    var all = [Update?](repeating: nil, count: layerCount * Projection.allCases.count)
    for (layer, projection, update) in updates { all[Self.index(layer, projection)] = update }
    self.contentHash = contentHash
    self.updates = all
    bytes = updates.reduce(0) { $0 + $1.update.factors.byteCount }
  }

  private static func index(_ layer: Int, _ projection: Projection) -> Int {
    layer * Projection.allCases.count + projection.index
  }

  /// What the adapter adds to a projection of a layer; `nil` if it does not change that one.
  public subscript(layer: Int, projection: Projection) -> Update? { updates[Self.index(layer, projection)] }

  /// The largest rank of any update.
  public var rank: Int { updates.reduce(0) { max($0, $1?.factors.rank ?? 0) } }

  /// The projections that the adapter changes in at least one layer, in the order of a forward pass.
  public var projections: [Projection] {
    let count = Projection.allCases.count
    return Projection.allCases.filter { projection in
      stride(from: projection.index, to: updates.count, by: count).contains { updates[$0] != nil }
    }.sorted { $0.order < $1.order }
  }
}
