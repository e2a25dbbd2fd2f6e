import CKernels

extension Matrix {
  /// A part of the product dx = dy · W: some rows of W (outputs) and some columns.
  public struct BackwardPart: Sendable, Equatable {
    /// Outputs that the sums run over.
    public let outputs: Range<Int>
    /// Columns of dx that are computed.
    public let columns: Range<Int>
  }

  /// Columns of W that are decoded together.
  fileprivate static let backwardPanel = 16
  /// Outputs that are decoded together: with `backwardPanel` columns they fill half of a first-level cache.
  fileprivate static let backwardDepth = 256
  /// The minimum of panels in a part, so that each thread has some.
  fileprivate static let minimumPanels = 8

  fileprivate func decode(_ training: graft_training_kernels)
    -> @convention(c) (
      UnsafePointer<graft_matrix>, Int, Int, Int, Int, UnsafeMutablePointer<Float>, Int
    ) -> Void
  {
    switch storage {
    case .nf4: training.decode_nf4
    case .int8: training.decode_int8
    case .dense: training.decode_dense
    }
  }

  /// dx[row][column] = Σ over outputs of dy[row][output] · w[output][column] for some columns; added to dx unless the
  /// outputs begin with the first. W is decoded a panel at a time. The `backwardDepth` columns of dy that a panel is
  /// multiplied with stay in the second-level cache from panel to panel.
  fileprivate func backward(
    _ training: graft_training_kernels, dy: Rows, rows: Int, outputs: Range<Int>, columns: Range<Int>, into dx: Rows
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
            rows, end - begin, count, 1, &gradient, &decoded, first == 0 ? GRAFT_OVERWRITE : GRAFT_ADD,
            dx.from(column: begin).pointer, dx.stride)
        }
      }
    }
  }
}

extension Compute {
  /// Divides dx = dy · W into parts that take about as long as so many operations in f32 (a multiplication and an addition
  /// count as two). For each column, the parts come in the order of their outputs, and must be computed in it.
  /// - Parameter outputs: how many outputs, from the first, have a gradient
  public func backwardParts(_ w: Matrix, outputs: Int, rows: Int, operations: Int) -> [Matrix.BackwardPart] {
    let panel = packsGradients(of: w) ? Self.tileColumns : Matrix.backwardPanel
    let operations = self.operations(operations, of: w)
    // Outputs of a part begin on multiples of the depth, so that sums are divided alike whatever the parts.
    let unit = Matrix.backwardDepth
    let perColumn = 2 * max(rows, 1)
    // On tile registers, parts are deep rather than wide, since each transposes the sums that it begins and ends with.
    let depthOfWidth = packsGradients(of: w) ? max(outputs, unit) : unit
    let width = max(operations / (perColumn * depthOfWidth) / panel, Matrix.minimumPanels) * panel
    let columns = packsGradients(of: w) ? min(width, w.columns) : w.columns
    let depth = max(operations / max(perColumn * unit * columns, 1), 1) * unit
    return stride(from: 0, to: outputs, by: depth).flatMap { first in
      stride(from: 0, to: w.columns, by: width).map { column in
        Matrix.BackwardPart(
          outputs: first..<min(first + depth, outputs), columns: column..<min(column + width, w.columns))
      }
    }
  }

  /// One part of dx = dy · W, the gradient of a product's input: in f32, or in bf16 on tile registers where
  /// `packsGradients(of:)`.
  /// - Parameters:
  ///   - part: one of `backwardParts`; a part with the first outputs overwrites dx, the others add to it
  ///   - outputs: how many outputs, from the first, have a gradient
  ///   - dy: [rows][≥ the part's last output]
  ///   - packed: what `packGradient` wrote of dy and all its outputs, if it is read
  ///   - dx: [rows][≥ columns]
  public func productBackward(
    _ w: Matrix, part: Matrix.BackwardPart, outputs: Int, dy: Rows, packed: PackedGradient, rows: Int, into dx: Rows
  ) {
    if packsGradients(of: w) {
      return productBackward(w, part: part, outputs: outputs, packed: packed, rows: rows, into: dx)
    }
    let training = kernels.training
    let outputs = part.outputs.clamped(to: 0..<w.outputs)
    let panels = (part.columns.count + Matrix.backwardPanel - 1) / Matrix.backwardPanel
    let columnsPerRange = (panels + pool.threadCount * 3 - 1) / (pool.threadCount * 3) * Matrix.backwardPanel
    pool.run(count: part.columns.count, size: columnsPerRange) { range in
      let first = part.columns.lowerBound
      w.backward(
        training, dy: dy, rows: rows, outputs: outputs, columns: first + range.lowerBound..<first + range.upperBound,
        into: dx)
    }
  }
}
