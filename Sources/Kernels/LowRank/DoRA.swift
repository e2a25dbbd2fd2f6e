import CKernels

/// The row factors of DoRA (Liu et al., 2024), which serving and training share.
public enum DoRA {
  /// ‖W + scale·B·A‖ of each row, in f64.
  ///
  /// It is the root of ‖W‖² + 2·scale·B·(A·Wᵀ) + scale²·B·(A·Aᵀ)·Bᵀ, so W + scale·B·A is never made.
  /// - Parameters:
  ///   - squares: ‖W‖² of each row: [outputs]
  ///   - products: A·Wᵀ, [rank][outputs]
  ///   - a: [rank][columns]
  ///   - b: [outputs][rank]
  /// - Returns: [outputs]
  public static func norms(
    squares: ArraySlice<Double>, products: Rows, a: UnsafePointer<Float>, b: UnsafePointer<Float>, rank: Int,
    columns: Int, scale: Float
  ) -> [Double] {
    let gram = gramMatrix(a, rank: rank, columns: columns)
    let s = Double(scale)
    return squares.enumerated().map { row, base in
      var (cross, square) = (0.0, 0.0)
      for r in 0..<rank {
        let weight = Double(b[row * rank + r])
        cross += weight * Double(products.pointer[r * products.stride + row])
        var sum = 0.0
        for q in 0..<rank { sum += gram[r * rank + q] * Double(b[row * rank + q]) }
        square += weight * sum
      }
      // Where the norm is almost 0, rounding can make the sum negative.
      return max(base + 2 * s * cross + s * s * square, 0).squareRoot()
    }
  }

  /// A·Aᵀ, [rank][rank].
  private static func gramMatrix(_ a: UnsafePointer<Float>, rank: Int, columns: Int) -> [Double] {
    var gram = [Double](repeating: 0, count: rank * rank)
    for r in 0..<rank {
      for q in 0...r {
        var sum = 0.0
        for c in 0..<columns { sum += Double(a[r * columns + c]) * Double(a[q * columns + c]) }
        gram[r * rank + q] = sum
        gram[q * rank + r] = sum
      }
    }
    return gram
  }
}

extension Compute {
  /// DoRA's row factors m = magnitude / ‖W + scale·B·A‖, with the norms of the exact weights.
  /// - Parameters:
  ///   - w: NF4 or dense
  ///   - rows: the module's rows in `w`; they begin on a multiple of 16
  ///   - a: [rank][columns]
  ///   - b: [outputs][rank]
  ///   - magnitude: [outputs]
  /// - Returns: m, [outputs]
  public func rowFactors(
    _ w: Matrix, rows: Range<Int>, a: [Float], b: [Float], rank: Int, scale: Float, magnitude: [Float]
  ) -> [Float] {
    let exact = Compute(kernels: kernels, pool: pool, mode: .f32)
    let groups = rows.lowerBound / tileLanes..<TileLayout.groups(rows.upperBound)
    let products = AlignedBuffer<Float>(count: rank * w.paddedOutputs)
    a.withUnsafeBufferPointer { a in
      guard let a = a.baseAddress else { return }
      let unused = QuantizedRows(rows: 0, columns: 0)
      BaseProduct(exact, w, a, rows: rank, quantized: unused, into: products.pointer).compute(groups)
    }
    let norms = DoRA.norms(
      squares: squaredRowNorms(w, groups: groups).prefix(rows.count),
      products: Rows(products.pointer + rows.lowerBound, stride: w.paddedOutputs), a: a, b: b, rank: rank,
      columns: w.columns, scale: scale)
    // The outputs of a row of zeros are 0 whatever its factor.
    return zip(magnitude, norms).map { $1 > 0 ? Float(Double($0) / $1) : 0 }
  }

  /// ‖W‖² of each row of some groups of an NF4 or dense matrix.
  /// - Returns: [groups · 16], padding included
  public func squaredRowNorms(_ w: Matrix, groups: Range<Int>) -> [Double] {
    let squares = AlignedBuffer<Double>(count: groups.count * tileLanes)
    let sums = AlignedBuffer<Float>(count: w.paddedOutputs)
    pool.run(count: groups.count, grain: 1) { part in
      let rows = part.lowerBound * tileLanes..<part.upperBound * tileLanes
      let first = groups.lowerBound * tileLanes
      if case .nf4 = w.storage {
        withUnsafePointer(to: w.descriptor) {
          kernels.forward.nf4_row_squares(
            $0, sums.pointer, groups.lowerBound + part.lowerBound, groups.lowerBound + part.upperBound)
        }
        for row in rows { squares[row] = Double(sums[first + row]) }
      } else {
        let values = AlignedBuffer<Float>(count: w.columns)
        for row in rows {
          w.copyRow(first + row, to: values.pointer)
          squares[row] = values.buffer.reduce(0.0) { $0 + Double($1) * Double($1) }
        }
      }
    }
    return Array(squares.buffer)
  }
}
