public import Formats
public import Kernels

/// A LoRA or DoRA adapter (Hu et al., 2021; Liu et al., 2024) in the kernels' layout: immutable, applied beside the
/// base, never merged.
public final class Adapter: Sendable {
  /// What it adds to one linear module: y += scale · B · (A · x), and DoRA's factor for each row.
  public struct Module: Sendable {
    public let factors: LowRankFactors
    /// α/r, or α/√r for rsLoRA.
    public let scale: Float

    public init(factors: LowRankFactors, scale: Float) {
      self.factors = factors
      self.scale = scale
    }
  }

  /// Names what the adapter computes: `AdapterContents`' hash of its files, where it has any.
  public let contentHash: String
  /// What the modules take in memory.
  public let bytes: Int
  /// [layer][module]
  private let modules: [Module?]

  public init(contentHash: String, layerCount: Int, modules: [(layer: Int, linear: LinearModule, module: Module)]) {
    var all = [Module?](repeating: nil, count: layerCount * LinearModule.allCases.count)
    for (layer, linear, module) in modules { all[Self.index(layer, linear)] = module }
    self.contentHash = contentHash
    self.modules = all
    bytes = modules.reduce(0) { $0 + $1.module.factors.byteCount }
  }

  private static func index(_ layer: Int, _ module: LinearModule) -> Int {
    layer * LinearModule.allCases.count + module.index
  }

  /// What the adapter changes in a module of a layer.
  public subscript(layer: Int, module: LinearModule) -> Module? { modules[Self.index(layer, module)] }

  /// The largest rank of any module.
  public var rank: Int { modules.reduce(0) { max($0, $1?.factors.rank ?? 0) } }

  /// The modules that some layer has, in the order of a forward pass.
  public var targets: [LinearModule] {
    let count = LinearModule.allCases.count
    return LinearModule.allCases.filter { module in
      stride(from: module.index, to: modules.count, by: count).contains { modules[$0] != nil }
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
