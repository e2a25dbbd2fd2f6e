public import Formats
public import Kernels

/// The weights of a `ProjectionStack`: one matrix, in which the projections' rows follow one another.
public struct StackedWeights: Sendable {
  /// [outputs of all projections, inputs]
  public let matrix: Matrix
  /// The projections in the order of the matrix, and the row where each one's outputs begin, a multiple of 16.
  public let projections: [(projection: Projection, offset: Int)]
  /// What is added to the outputs, [padded outputs]; `nil` if no projection of the stack has a bias.
  ///
  /// The memory is valid as long as the matrix's.
  public nonisolated(unsafe) let bias: UnsafePointer<Float>?

  /// - Parameters:
  ///   - offsets: the row where each projection's outputs begin, as `layout` gives them
  ///   - bias: [padded outputs], in memory that lives as long as the matrix's
  public init(matrix: Matrix, offsets: [Projection: Int], bias: UnsafePointer<Float>? = nil) {
    self.matrix = matrix
    self.bias = bias
    projections = offsets.sorted { $0.value < $1.value }.map { ($0.key, $0.value) }
  }

  /// The row where a projection's outputs begin. The projection must be one of the stack's.
  public func offset(_ projection: Projection) -> Int { projections.first { $0.projection == projection }!.offset }

  /// The outputs where queries, keys and values begin, of the stack that computes them.
  public func attentionOffsets(_ config: ModelConfig) -> (q: Int, k: Int, v: Int) {
    guard config.architecture.isFused else { return (offset(.q), offset(.k), offset(.v)) }
    let first = offset(.queryKeyValue)
    return (first, first + config.querySize, first + config.querySize + config.keyValueSize)
  }

  /// The outputs where gate and up begin, of the stack that computes them.
  public func feedForwardOffsets(_ config: ModelConfig) -> (gate: Int, up: Int) {
    guard config.architecture.isFused else { return (offset(.gate), offset(.up)) }
    return (offset(.gateUp), offset(.gateUp) + config.intermediateSize)
  }

  /// The row where each projection's outputs begin, and the rows of all together. Every projection is padded to whole
  /// groups of 16 rows, the height of a tile.
  public static func layout(
    _ projections: [Projection], _ config: ModelConfig
  ) -> (offsets: [Projection: Int], outputs: Int) {
    var offsets: [Projection: Int] = [:]
    var outputs = 0
    for projection in projections {
      offsets[projection] = outputs
      outputs += TileLayout.groups(projection.shape(config).output) * tileLanes
    }
    return (offsets, outputs)
  }
}
