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

  /// The first `outputs` outputs in ranges for the way back, of about so many operations each. They begin on the
  /// depths that weights are decoded in, and all columns go with each, so that every thread has some.
  public func backwardRanges(outputs: Int, rows: Int, operations: Int) -> [Range<Int>] {
    let each = Swift.max(2 * columns * Self.backwardDepth * Swift.max(rows, 1), 1)
    let size = Swift.max(operations / each, 1) * Self.backwardDepth
    return stride(from: 0, to: outputs, by: size).map { $0..<Swift.min($0 + size, outputs) }
  }

  private static func ranges(_ count: Int, _ size: Int) -> [Range<Int>] {
    // Even sizes, so that no small rest keeps one thread busy alone.
    let pieces = (count + size - 1) / size
    return (0..<pieces).map { count * $0 / pieces..<count * ($0 + 1) / pieces }
  }

  /// Columns that are decoded together on the way back.
  static let backwardPanel = 96
  /// Outputs that are decoded together: with `backwardPanel` columns they fill a third of a second-level cache.
  private static let backwardDepth = 384

  /// dx[row][column] = Σ over outputs of dy[row][output] · w[output][column] for a panel of columns, or + what dx
  /// holds where the outputs are not the first. The weights are decoded `backwardDepth` outputs at a time.
  func backward(
    _ training: graft_training_kernels, _ dy: Rows, rows: Int, outputs: Range<Int>, into dx: Rows, panel: Int,
    scratch: UnsafeMutablePointer<Float>
  ) {
    var descriptor = descriptor
    let decode =
      switch storage {
      case .nf4: training.decode_nf4!
      case .int8: training.decode_int8!
      case .dense: training.decode_dense!
      }
    let begin = panel * Self.backwardPanel
    let end = Swift.min(begin + Self.backwardPanel, columns)
    for first in stride(from: outputs.lowerBound, to: outputs.upperBound, by: Self.backwardDepth) {
      let count = Swift.min(Self.backwardDepth, outputs.upperBound - first)
      decode(
        &descriptor, first / tileLanes, (first + count + tileLanes - 1) / tileLanes, begin, end, scratch,
        Self.backwardDepth)
      DenseProduct.multiply(
        m: rows, n: end - begin, k: count, alpha: 1, dy.from(column: first), transposed: false,
        Rows(scratch, stride: Self.backwardDepth), transposed: true, beta: first == 0 ? 0 : 1,
        into: dx.from(column: begin))
    }
  }

  static var backwardScratchCount: Int { backwardPanel * backwardDepth }
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
  ///   - outputs: one of `backwardRanges`; the first writes dx, the others add to it
  ///   - dy: [rows][≥ outputs.upperBound]
  ///   - dx: [rows][≥ columns]
  public func productBackward(_ w: Matrix, outputs: Range<Int>, _ dy: Rows, rows: Int, into dx: Rows) {
    let training = kernels.training
    pool.run(parts: (w.columns + Matrix.backwardPanel - 1) / Matrix.backwardPanel) { part in
      withUnsafeTemporaryAllocation(of: Float.self, capacity: Matrix.backwardScratchCount) { scratch in
        w.backward(
          training, dy, rows: rows, outputs: outputs.clamped(to: 0..<w.outputs), into: dx, panel: part,
          scratch: scratch.baseAddress!)
      }
    }
  }
}
