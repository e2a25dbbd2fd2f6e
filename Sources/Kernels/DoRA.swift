import CKernels

extension Compute {
  /// DoRA's row factors m = magnitude / ‖W + scale·B·A‖ (Liu et al., 2024), norms taken by row over the exact weights.
  ///
  /// The norms come out of ‖W‖² + 2·scale·B·(A·Wᵀ) + scale²·B·(A·Aᵀ)·Bᵀ, so that no sum of matrices is ever made.
  /// - Parameters:
  ///   - rows: of `w`, a whole module's; they begin on a multiple of 16
  ///   - a: [rank, columns], row-major
  ///   - b: [outputs, rank], row-major
  ///   - magnitude: [outputs]
  public func rowFactors(
    _ w: Matrix, rows: Range<Int>, a: [Float], b: [Float], rank: Int, scale: Float, magnitude: [Float]
  ) -> [Float] {
    let exact = Compute(kernels: kernels, pool: pool, mode: .f32)
    let groups = rows.lowerBound / tileLanes..<TileLayout.groups(rows.upperBound)
    let products = AlignedBuffer<Float>(count: rank * w.paddedOutputs)
    a.withUnsafeBufferPointer { a in
      guard let a = a.baseAddress else { return }
      let rounded = RoundedRows(rows: 0, columns: 0)
      BaseProduct(exact, w, a, rows: rank, rounded: rounded, into: products.pointer).compute(groups)
    }
    let squares = rowSquares(w, groups: groups)
    var gram = [Double](repeating: 0, count: rank * rank)
    for r in 0..<rank {
      for q in 0...r {
        var sum = 0.0
        for c in 0..<w.columns { sum += Double(a[r * w.columns + c]) * Double(a[q * w.columns + c]) }
        gram[r * rank + q] = sum
        gram[q * rank + r] = sum
      }
    }
    let s = Double(scale)
    return rows.indices.map { row in
      let o = row - rows.lowerBound
      var (cross, square) = (0.0, 0.0)
      for r in 0..<rank {
        let weight = Double(b[o * rank + r])
        cross += weight * Double(products.pointer[r * w.paddedOutputs + row])
        var sum = 0.0
        for q in 0..<rank { sum += gram[r * rank + q] * Double(b[o * rank + q]) }
        square += weight * sum
      }
      let norm = (squares[o] + 2 * s * cross + s * s * square).squareRoot()
      // A row of zeros gives zeros, whatever its factor.
      return norm > 0 ? Float(Double(magnitude[o]) / norm) : 0
    }
  }

  /// ‖W‖² of each row of some groups.
  private func rowSquares(_ w: Matrix, groups: Range<Int>) -> [Double] {
    let count = groups.count * tileLanes
    if case .nf4 = w.storage {
      let out = AlignedBuffer<Float>(count: w.paddedOutputs)
      withUnsafePointer(to: w.descriptor) {
        kernels.functions.nf4_row_squares($0, out.pointer, groups.lowerBound, groups.upperBound)
      }
      return (0..<count).map { Double(out.pointer[groups.lowerBound * tileLanes + $0]) }
    }
    let row = AlignedBuffer<Float>(count: w.columns)
    return (0..<count).map { index in
      w.copyRow(groups.lowerBound * tileLanes + index, to: row.pointer)
      return row.buffer.reduce(0.0) { $0 + Double($1) * Double($1) }
    }
  }
}
