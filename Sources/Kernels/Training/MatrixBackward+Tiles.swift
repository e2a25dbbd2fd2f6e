import CKernels

/// Training's products in bf16 on tile registers, where the instruction set has them and the mode is not `f32`.
extension Compute {
  /// Whether `productBackward` reads packed gradients for some matrices, so that a `PackedGradient` is needed.
  public var packsGradients: Bool { mode != .f32 && kernels.training.multiply_bf16 != nil }

  /// Whether `productBackward` with this matrix reads packed gradients. A dense matrix is multiplied in f32.
  public func packsGradients(of w: Matrix) -> Bool {
    if case .dense = w.storage { false } else { packsGradients }
  }

  /// The operations that a product with a matrix does in the time in which the other instruction sets do `count`.
  /// Estimated: tile registers multiply five times as fast, and some of that is lost to the decoding of weights.
  public func operations(_ count: Int, of w: Matrix) -> Int { packsGradients(of: w) ? 4 * count : count }

  /// Rounds gradients to bf16 and packs them.
  /// - Parameters:
  ///   - dy: [rows][≥ outputs]
  ///   - packed: at least `PackedGradient.count` of these rows and outputs, written
  public func packGradient(_ dy: Rows, rows: Int, outputs: Int, into packed: PackedGradient) {
    guard let kernel = kernels.training.pack_gradient else { return }
    let size = PackedGradient.tileCount(outputs: outputs)
    pool.run(count: (rows + tileLanes - 1) / tileLanes, grain: 1) { tiles in
      for tile in tiles {
        let first = tile * tileLanes
        kernel(
          dy.from(row: first).pointer, dy.stride, min(tileLanes, rows - first), outputs,
          packed.values.pointer + tile * size)
      }
    }
  }

  /// One part of dx = dy · W on tile registers, of gradients that were packed.
  func productBackward(
    _ w: Matrix, part: Matrix.BackwardPart, outputs: Int, packed: PackedGradient, rows: Int, into dx: Rows
  ) {
    let isNF4 = if case .nf4 = w.storage { true } else { false }
    guard let kernel = isNF4 ? kernels.training.nf4_backward : kernels.training.int8_backward else { return }
    pool.run(count: part.columns.count, size: Self.tileColumns) { range in
      let columns = part.columns.lowerBound + range.lowerBound..<part.columns.lowerBound + range.upperBound
      withUnsafePointer(to: w.descriptor) {
        kernel(
          $0, packed.values.pointer, rows, outputs, part.outputs.lowerBound, part.outputs.upperBound,
          columns.lowerBound, columns.upperBound, dx.pointer, dx.stride)
      }
    }
  }

  /// Columns whose weights are decoded together.
  static let tileColumns = 32
}
