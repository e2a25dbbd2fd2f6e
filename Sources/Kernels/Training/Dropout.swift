import CKernels

extension Compute {
  /// Inverted dropout (Srivastava et al., 2014): out = x / (1 − p), or 0 where the random number is below p.
  /// - Parameters:
  ///   - x: [rows][columns]
  ///   - out: [rows][columns], which may be the same memory unless `adding`
  ///   - probability: p, in 0 ..< 1
  ///   - keys: a key for each row. Element i of a row takes the random number at index position · columns + i
  ///   - positions: a position for each row
  ///   - adding: adds to `out` instead of overwriting it
  public func dropout(
    _ x: Rows, into out: Rows, columns: Int, probability: Float, keys: ArraySlice<CounterKey>,
    positions: ArraySlice<Int32>, adding: Bool = false
  ) {
    let kernel = kernels.training.dropout
    let threshold = UInt32(min(max((Double(probability) * 0x1p32).rounded(.down), 0), Double(UInt32.max)))
    let factor = 1 / (1 - probability)
    pool.run(count: keys.count, grain: 8) { range in
      for row in range {
        let (key, position) = (keys[keys.startIndex + row], positions[positions.startIndex + row])
        kernel(
          x.pointer + row * x.stride, out.pointer + row * out.stride, columns,
          UInt32(truncatingIfNeeded: Int(position) * columns), key.low, key.high, threshold, factor, adding ? 1 : 0)
      }
    }
  }
}
