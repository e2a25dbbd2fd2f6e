public import Formats
public import Kernels

/// Linear modules with a common input, stacked into one matrix so that one pass over the input serves them all.
public struct StackedLinear: Sendable {
  public let matrix: Matrix
  /// The modules in the order of the matrix, and where each one's outputs begin; every one on a multiple of 16.
  public let modules: [(module: LinearModule, offset: Int)]

  public init(matrix: Matrix, offsets: [LinearModule: Int]) {
    self.matrix = matrix
    modules = offsets.sorted { $0.value < $1.value }.map { ($0.key, $0.value) }
  }

  /// Where a module's outputs begin; the module must be one of the stack's.
  public func offset(_ module: LinearModule) -> Int { modules.first { $0.module == module }!.offset }

  /// The stacks of a decoder layer, in the order of a forward pass.
  public static let stacks: [[LinearModule]] = Projection.allCases.map(\.modules)

  /// Offsets of the modules and the rows of the stack, each module padded to whole groups of 16.
  public static func layout(_ modules: [LinearModule], _ config: ModelConfig) -> (
    offsets: [LinearModule: Int], outputs: Int
  ) {
    var offsets: [LinearModule: Int] = [:]
    var outputs = 0
    for module in modules {
      offsets[module] = outputs
      outputs += TileLayout.groups(module.shape(config).output) * tileLanes
    }
    return (offsets, outputs)
  }
}

/// The weights of the base model: loaded once, shared by every request, never written.
///
/// `@unchecked Sendable`: the norms' pointers lead into memory that is never written and that `owner` keeps.
public final class Base: @unchecked Sendable {
  public struct Layer {
    let inputNorm: UnsafePointer<Float>
    let postAttentionNorm: UnsafePointer<Float>
    let queryKeyValue: StackedLinear
    let output: StackedLinear
    let gateUp: StackedLinear
    let down: StackedLinear
  }

  public let config: ModelConfig
  /// Names the weights that adapters are trained for: SHA-256 over configuration, codes, scales, norms and head.
  public let fingerprint: String
  /// Bytes of weights that a decoded token reads.
  public var bytesPerToken: Int {
    head.byteCount
      + layers.reduce(0) { sum, layer in
        sum + [layer.queryKeyValue, layer.output, layer.gateUp, layer.down].reduce(0) { $0 + $1.matrix.byteCount }
      }
  }
  /// Multiplications and additions of the decoder layers' products for one token.
  public var operationsPerToken: Int {
    layers.count * LinearModule.allCases.reduce(0) { $0 + 2 * $1.shape(config).output * $1.shape(config).input }
  }

  /// The matrix that holds a module's weights, and the row where they begin.
  func matrix(_ module: LinearModule, layer: Int) -> (matrix: Matrix, offset: Int) {
    let stacks = layers[layer]
    let stack =
      switch module {
      case .q, .k, .v: stacks.queryKeyValue
      case .o: stacks.output
      case .gate, .up: stacks.gateUp
      case .down: stacks.down
      }
    return (stack.matrix, stack.offset(module))
  }

  let layers: [Layer]
  let finalNorm: UnsafePointer<Float>
  let embedding: Matrix
  let head: Matrix
  /// The head as published, to be compared with; nothing is computed with it where `head` is rounded.
  let exactHead: Matrix?
  private let owner: any AnyObject & Sendable

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
}
