import CKernels

extension KernelSet {
  /// The loops of the backward pass for the same instruction set.
  var training: graft_training_kernels {
    let level: graft_level =
      switch instructionSet {
      case .scalar: GRAFT_SCALAR
      case .avx2: GRAFT_AVX2
      case .avx512, .vnni: GRAFT_AVX512
      }
    // There for every level that `init` found kernels for.
    return graft_training_kernels_for(level).pointee
  }
}

extension Matrix {
  /// Groups of 16 outputs, in ranges of about so many multiplications and additions for `rows` rows.
  public func outputRanges(rows: Int, operations: Int) -> [Range<Int>] {
    let each = Swift.max(2 * columns * tileLanes * Swift.max(rows, 1), 1)
    return Self.ranges(groups, Swift.max(operations / each, 1))
  }

  /// What one slice of the way back multiplies.
  public struct BackwardPiece: Sendable, Equatable {
    public let outputs: Range<Int>
    public let columns: Range<Int>
  }

  /// The first `outputs` outputs, and all columns, in pieces of about so many operations each. A column's pieces come in
  /// the order of their outputs. Outputs begin on the depths that weights are decoded in.
  public func backwardPieces(outputs: Int, rows: Int, operations: Int) -> [BackwardPiece] {
    let column = 2 * Self.backwardDepth * Swift.max(rows, 1)
    let stretch = Swift.max(operations / column / Self.backwardPanel, Self.leastPanels) * Self.backwardPanel
    let size = Swift.max(operations / Swift.max(column * columns, 1), 1) * Self.backwardDepth
    return stride(from: 0, to: outputs, by: size).flatMap { first in
      stride(from: 0, to: columns, by: stretch).map { column in
        BackwardPiece(
          outputs: first..<Swift.min(first + size, outputs), columns: column..<Swift.min(column + stretch, columns))
      }
    }
  }

  private static func ranges(_ count: Int, _ size: Int) -> [Range<Int>] {
    // Even sizes, so that no small rest keeps one thread busy alone.
    let pieces = (count + size - 1) / size
    return (0..<pieces).map { count * $0 / pieces..<count * ($0 + 1) / pieces }
  }

  /// Columns that are decoded together on the way back.
  static let backwardPanel = 16
  /// Outputs that are decoded together: with `backwardPanel` columns they fill half of a first-level cache.
  private static let backwardDepth = 256
  /// The fewest panels of a piece: every thread should have some.
  private static let leastPanels = 8

  fileprivate func decode(_ training: graft_training_kernels)
    -> @convention(c) (
      UnsafePointer<graft_matrix>?, Int, Int, Int, Int, UnsafeMutablePointer<Float>?, Int
    ) -> Void
  {
    switch storage {
    case .nf4: training.decode_nf4!
    case .int8: training.decode_int8!
    case .dense: training.decode_dense!
    }
  }

  /// dx[row][column] = Σ over outputs of dy[row][output] · w[output][column] for some columns, or + what dx holds where
  /// the outputs are not the first. Weights are decoded a panel at a time; of dy, what goes with `backwardDepth` outputs
  /// stays in a second-level cache meanwhile.
  fileprivate func backward(
    _ training: graft_training_kernels, _ dy: Rows, rows: Int, outputs: Range<Int>, columns: Range<Int>, into dx: Rows
  ) {
    var descriptor = descriptor
    let decode = decode(training)
    let depth = Self.backwardDepth
    withUnsafeTemporaryAllocation(of: Float.self, capacity: Self.backwardPanel * depth) { scratch in
      guard let weights = scratch.baseAddress else { return }
      var decoded = Rows(weights, stride: depth).operand(transposed: true)
      for first in stride(from: outputs.lowerBound, to: outputs.upperBound, by: depth) {
        let count = Swift.min(depth, outputs.upperBound - first)
        var gradient = dy.from(column: first).operand(transposed: false)
        for begin in stride(from: columns.lowerBound, to: columns.upperBound, by: Self.backwardPanel) {
          let end = Swift.min(begin + Self.backwardPanel, columns.upperBound)
          decode(
            &descriptor, first / tileLanes, (first + count + tileLanes - 1) / tileLanes, begin, end, weights, depth)
          training.multiply_dense(
            rows, end - begin, count, 1, &gradient, &decoded, first == 0 ? GRAFT_NOTHING : GRAFT_SUM,
            dx.from(column: begin).pointer,
            dx.stride)
        }
      }
    }
  }
}

extension Compute {
  /// `product` for some groups of outputs, of rows that `round` has prepared where the mode wants it.
  /// y: [rows][paddedOutputs].
  public func product(
    _ w: Matrix, groups: Range<Int>, _ x: UnsafePointer<Float>, rows: Int, rounded: RoundedRows,
    into y: UnsafeMutablePointer<Float>
  ) {
    let product = BaseProduct(self, w, x, rows: rows, rounded: rounded, into: y)
    pool.run(count: groups.count, grain: leastGroups(rows: rows, columns: w.columns)) { part in
      product.compute(groups.lowerBound + part.lowerBound..<groups.lowerBound + part.upperBound)
    }
  }

  /// Rounds rows for integer products with `w`, where the mode has such.
  public func round(_ x: UnsafePointer<Float>, rows: Int, for w: Matrix, into rounded: RoundedRows) {
    let product = BaseProduct(self, w, x, rows: rows, rounded: rounded, into: nil)
    pool.run(parts: product.roundingParts) { product.round(part: $0) }
  }

  /// dx = dy · W over some outputs, a tile of W decoded at a time (f32 arithmetic in every mode).
  /// - Parameters:
  ///   - piece: one of `backwardPieces`; those of the first outputs write dx, the others add to it
  ///   - dy: [rows][≥ the piece's outputs]
  ///   - dx: [rows][≥ columns]
  public func productBackward(_ w: Matrix, _ piece: Matrix.BackwardPiece, _ dy: Rows, rows: Int, into dx: Rows) {
    let training = kernels.training
    let outputs = piece.outputs.clamped(to: 0..<w.outputs)
    let panels = (piece.columns.count + Matrix.backwardPanel - 1) / Matrix.backwardPanel
    // Stretches of columns, each with all of the piece's outputs.
    let share = (panels + pool.threadCount * 3 - 1) / (pool.threadCount * 3) * Matrix.backwardPanel
    pool.run(count: piece.columns.count, size: share) { part in
      let first = piece.columns.lowerBound
      w.backward(
        training, dy, rows: rows, outputs: outputs, columns: first + part.lowerBound..<first + part.upperBound,
        into: dx)
    }
  }
}
