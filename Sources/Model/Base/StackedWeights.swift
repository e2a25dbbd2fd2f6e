public import Formats
public import Kernels

/// The weights of a `ProjectionStack`: one matrix, in which the projections' rows follow one another.
public struct StackedWeights: Sendable {
  /// [outputs of all projections, inputs]
  public let matrix: Matrix
  /// The projections in the order of the matrix, and the row where each one's outputs begin, a multiple of 16.
  public let projections: [(projection: Projection, offset: Int)]

  /// - Parameter offsets: the row where each projection's outputs begin, as `layout` gives them
  public init(matrix: Matrix, offsets: [Projection: Int]) {
    self.matrix = matrix
    projections = offsets.sorted { $0.value < $1.value }.map { ($0.key, $0.value) }
  }

  /// The row where a projection's outputs begin. The projection must be one of the stack's.
  public func offset(_ projection: Projection) -> Int { projections.first { $0.projection == projection }!.offset }

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
