public import Formats
public import Kernels

/// An adapter in the kernels' layout: immutable, applied beside the base, never merged into it. LoRA and DoRA (Hu et al.,
/// 2021; Liu et al., 2024), IA3 (Liu et al., 2022), and whole tensors in place of the base's.
///
/// Every part is a difference from the base, so a request's weight multiplies all parts alike.
public final class Adapter: Sendable {
  /// What the adapter adds to one projection or to the head: y += scale · B · (A · x), DoRA's or IA3's factor for each
  /// output, a bias, and a change of the input's columns.
  public struct Update: Sendable {
    /// A, B and what goes with them, rounded as the compute mode wants them.
    public let factors: LowRankFactors
    /// α/r, or α/√r for rsLoRA.
    public let scale: Float
    /// Whether A and B are more than zeros, which stand there where the adapter changes the module otherwise.
    let hasFactors: Bool

    /// - Parameters: as the properties
    public init(factors: LowRankFactors, scale: Float) { self.init(factors: factors, scale: scale, hasFactors: true) }

    init(factors: LowRankFactors, scale: Float, hasFactors: Bool) {
      self.factors = factors
      self.scale = scale
      self.hasFactors = hasFactors
    }
  }

  /// Names what the adapter computes: the hash that `AdapterContents` gives its files. Adapters that have no files get a
  /// name of their own.
  public let contentHash: String
  /// Memory of all parts, in bytes.
  public let bytes: Int
  /// Norms, embedding and head; `nil` if the adapter changes projections only.
  public let others: OtherChanges?
  /// [layer][projection]; `nil` where the adapter changes nothing.
  private let updates: [Update?]

  /// - Parameters:
  ///   - layerCount: the base's
  ///   - updates: at most one for each projection of a layer below `layerCount`
  ///   - others: what the adapter changes beside projections
  public init(
    contentHash: String, layerCount: Int, updates: [(layer: Int, projection: Projection, update: Update)],
    others: OtherChanges? = nil
  ) {
    var all = [Update?](repeating: nil, count: layerCount * Projection.allCases.count)
    for (layer, projection, update) in updates { all[Self.index(layer, projection)] = update }
    self.contentHash = contentHash
    self.updates = all
    self.others = others
    bytes = updates.reduce(others?.byteCount ?? 0) { $0 + $1.update.factors.byteCount }
  }

  private static func index(_ layer: Int, _ projection: Projection) -> Int {
    layer * Projection.allCases.count + projection.index
  }

  /// What the adapter adds to a projection of a layer; `nil` if it does not change that one.
  public subscript(layer: Int, projection: Projection) -> Update? { updates[Self.index(layer, projection)] }

  /// The largest rank of any update.
  public var rank: Int { updates.reduce(others?.rank ?? 0) { max($0, $1?.rank ?? 0) } }

  /// Short names of the modules that the adapter changes, in the order of a forward pass.
  public var targets: [String] {
    var names = projections.map(\.shortName)
    if others?.embedding != nil { names.insert("embed_tokens", at: 0) }
    if others?.changesNorms == true { names.append("norm") }
    if others?.head != nil { names.append("lm_head") }
    return names
  }

  /// The projections that the adapter changes in at least one layer, in the order of a forward pass.
  public var projections: [Projection] {
    let count = Projection.allCases.count
    return Projection.allCases.filter { projection in
      stride(from: projection.index, to: updates.count, by: count).contains { updates[$0] != nil }
    }.sorted { $0.order < $1.order }
  }
}

extension Adapter.Update {
  /// The rank of B · A; 0 if it is zero.
  var rank: Int { hasFactors ? factors.rank : 0 }
}
