import CKernels

extension Compute {
  /// Whether every |x[i]| is a number and at most `limit`. Runs on the caller's thread.
  /// - Parameters:
  ///   - x: [count]
  ///   - limit: finite and not negative
  public static func allMagnitudes(of x: UnsafePointer<Float>, count: Int, areAtMost limit: Float) -> Bool {
    // Without their sign, f32 bit patterns compare as integers in the order of the numbers; infinity and NaN are above
    // all numbers.
    var lanes = SIMD16<Int32>(repeating: 0)
    let mask = SIMD16<Int32>(repeating: .max)
    var i = 0
    while i + 16 <= count {
      let next = UnsafeRawPointer(x + i).loadUnaligned(as: SIMD16<Int32>.self) & mask
      lanes.replace(with: next, where: next .> lanes)
      i += 16
    }
    var maximum = lanes.max()
    while i < count {
      maximum = max(maximum, Int32(bitPattern: x[i].bitPattern & 0x7FFF_FFFF))
      i += 1
    }
    return maximum <= Int32(bitPattern: limit.bitPattern)
  }

  /// Whether Σ x[i]² is within f32's range. Beyond it, RMS norm yields zeros or NaN. Runs on the caller's thread.
  /// - Parameter x: [count]
  public func hasFiniteSquares(_ x: UnsafePointer<Float>, count: Int) -> Bool {
    kernels.training.sum_squares(x, count) <= Double(Float.greatestFiniteMagnitude)
  }
}
