import CKernels

/// y = x · Wᵀ in a compute mode's arithmetic, in steps that threads share: first the parts of `quantization`, then
/// ranges of W's groups.
///
/// Ranges write to different memory. The caller keeps all memory alive.
struct BaseProduct {
  /// The quantisation of the rows, which must be complete before the first range.
  let quantization: RowQuantization
  /// Columns of W and of x.
  let columns: Int
  private let rows: Int
  private let x: UnsafePointer<Float>
  private let y: UnsafeMutablePointer<Float>
  private let ldy: Int
  private let matrix: graft_matrix
  private let isNF4: Bool
  private let functions: graft_forward_kernels

  /// - Parameters:
  ///   - x: [rows][columns]
  ///   - quantized: memory for the rows, if they are quantised
  ///   - y: [rows][paddedOutputs], written
  init(
    _ compute: Compute, _ w: Matrix, _ x: UnsafePointer<Float>, rows: Int, quantized: QuantizedRows,
    into y: UnsafeMutablePointer<Float>
  ) {
    self.rows = rows
    self.x = x
    self.y = y
    (columns, ldy, matrix, functions) = (w.columns, w.paddedOutputs, w.descriptor, compute.kernels.forward)
    isNF4 = if case .nf4 = w.storage { true } else { false }
    quantization = RowQuantization(compute, for: w, x, rows: rows, into: quantized)
    precondition(
      quantization.block == nil || w.halfScale != nil, "a base opened for f32, computed with in another mode")
  }

  /// Writes the outputs of some of W's groups. All rows must have been quantised.
  /// - Parameter prefetches: bytes to load into the cache meanwhile; only a product of quantised rows does so
  func compute(_ groups: Range<Int>, prefetches: UnsafeBufferPointer<graft_prefetch> = .init(start: nil, count: 0)) {
    withUnsafePointer(to: matrix) { matrix in
      guard let block = quantization.block else {
        let kernel = isNF4 ? functions.nf4_product : functions.dense_product
        return kernel(matrix, x, columns, rows, y, ldy, groups.lowerBound, groups.upperBound)
      }
      let quantized = quantization.quantized
      let activations = graft_activations(
        q: quantized.values.pointer, scale: quantized.scale.pointer, columns: columns, block: block, stride: rows)
      withUnsafePointer(to: activations) { activations in
        let kernel = isNF4 ? functions.nf4_quantized_product : functions.int8_quantized_product
        kernel(
          matrix, activations, rows, y, ldy, groups.lowerBound, groups.upperBound, prefetches.baseAddress,
          prefetches.count)
      }
    }
  }
}
