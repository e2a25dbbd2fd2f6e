public import Formats
public import Kernels

/// The weights of the base model: loaded once, shared by every request, never written to.
///
/// `@unchecked Sendable`: the pointers to the norms' weights lead into memory that nothing writes to and that `owner`
/// keeps.
public final class Base: @unchecked Sendable {
  /// The weights of one decoder layer. The pointers are valid as long as the base is.
  ///
  /// `@unchecked Sendable`: the pointers lead into memory that nothing writes to.
  public struct Layer: @unchecked Sendable {
    /// The weights of the norms that the architecture has.
    private let norms: [UnsafePointer<Float>?]
    /// q, k and v.
    public let queryKeyValue: StackedWeights
    /// o.
    public let output: StackedWeights
    /// gate and up.
    public let gateUp: StackedWeights
    /// down.
    public let down: StackedWeights

    /// - Parameter norm: the weights of a norm; `nil` if the layer does not have it
    init(
      norm: (LayerNorm) throws -> UnsafePointer<Float>?, queryKeyValue: StackedWeights, output: StackedWeights,
      gateUp: StackedWeights, down: StackedWeights
    ) rethrows {
      norms = try LayerNorm.allCases.map(norm)
      self.queryKeyValue = queryKeyValue
      self.output = output
      self.gateUp = gateUp
      self.down = down
    }

    /// The weights of a norm, [`ModelConfig.size(of:)`]; `nil` if the layer does not have it.
    public subscript(norm: LayerNorm) -> UnsafePointer<Float>? { norms[norm.index] }
  }

  /// The model's sizes and constants.
  public let config: ModelConfig
  /// Names the weights that adapters are trained for: SHA-256 over configuration, codes, scales, norms and head.
  public let fingerprint: String
  /// [layerCount], in the order of a forward pass.
  public let layers: [Layer]
  /// Before the output head, [hiddenSize].
  public let finalNorm: UnsafePointer<Float>
  /// [vocabularySize, hiddenSize], as published.
  public let embedding: Matrix
  /// The output head, [vocabularySize, hiddenSize], as the compute mode keeps it.
  public let head: Matrix
  /// The output head as published, which PEFT's copies of it are compared with; where `head` is rounded, nothing is
  /// computed with it. `nil` for synthetic weights.
  let exactHead: Matrix?
  private let owner: any AnyObject & Sendable

  /// - Parameter owner: keeps the memory of all matrices and norms in place and unchanged
  init(
    config: ModelConfig, fingerprint: String, layers: [Layer], finalNorm: UnsafePointer<Float>,
    embedding: Matrix, head: Matrix, exactHead: Matrix? = nil, owner: any AnyObject & Sendable
  ) {
    self.config = config
    self.fingerprint = fingerprint
    self.layers = layers
    self.finalNorm = finalNorm
    self.embedding = embedding
    self.head = head
    self.exactHead = exactHead
    self.owner = owner
  }

  /// Weights that a decoded token reads, in bytes.
  public var bytesPerToken: Int {
    layers.reduce(head.byteCount) { sum, layer in
      ProjectionStack.allCases.reduce(sum) { $0 + layer[$1].matrix.byteCount }
    }
  }

  /// Multiplications and additions of the decoder layers' products for one token.
  public var operationsPerToken: Int {
    layers.count * config.projections.reduce(0) { $0 + 2 * $1.shape(config).output * $1.shape(config).input }
  }

  /// The matrix that holds a projection's weights, and the row where they begin.
  func matrix(_ projection: Projection, layer: Int) -> (matrix: Matrix, offset: Int) {
    let stacked = layers[layer][projection.stack]
    return (stacked.matrix, stacked.offset(projection))
  }
}

extension LayerNorm {
  /// The index among `allCases`.
  fileprivate var index: Int {
    switch self {
    case .attentionInput: 0
    case .attentionOutput: 1
    case .feedForwardInput: 2
    case .feedForwardOutput: 3
    case .queries: 4
    case .keys: 5
    }
  }
}
