/// A product that the caller computes in parts of bounded work: first `quantizeRows`, then any ranges of groups in any
/// order.
extension Matrix {
  /// Divides the matrix's groups of 16 outputs into ranges of almost equal length, so that a product of each with `rows`
  /// rows takes at most about so many operations (a multiplication and an addition count as two).
  public func outputRanges(rows: Int, operations: Int) -> [Range<Int>] {
    let perGroup = Swift.max(2 * columns * tileLanes * Swift.max(rows, 1), 1)
    let size = Swift.max(operations / perGroup, 1)
    // Equal lengths, because a short last range would leave the other threads without work.
    let count = (groups + size - 1) / size
    return (0..<count).map { groups * $0 / count..<groups * ($0 + 1) / count }
  }
}

extension Compute {
  /// `product` for some groups of outputs, of rows that `quantizeRows` has quantised if the mode needs it.
  /// - Parameters:
  ///   - x: [rows][columns]
  ///   - quantized: what `quantizeRows` has written for the same rows and matrix
  ///   - y: [rows][paddedOutputs], of which the groups' outputs are written
  public func product(
    _ w: Matrix, groups: Range<Int>, _ x: UnsafePointer<Float>, rows: Int, quantized: QuantizedRows,
    into y: UnsafeMutablePointer<Float>
  ) {
    let product = BaseProduct(self, w, x, rows: rows, quantized: quantized, into: y)
    pool.run(count: groups.count, grain: minimumGroups(rows: rows, columns: w.columns)) { part in
      product.compute(groups.lowerBound + part.lowerBound..<groups.lowerBound + part.upperBound)
    }
  }

  /// Quantises rows for products with `w`. Does nothing if the mode's product with `w` reads f32.
  /// - Parameter x: [rows][columns]
  public func quantizeRows(_ x: UnsafePointer<Float>, rows: Int, for w: Matrix, into quantized: QuantizedRows) {
    let quantization = RowQuantization(self, for: w, x, rows: rows, into: quantized)
    pool.run(parts: quantization.parts) { quantization.quantize(part: $0) }
  }
}
