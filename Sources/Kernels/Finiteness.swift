import CKernels

extension Compute {
  /// Whether the magnitudes of all values are numbers of at most `limit`.
  /// - Parameter limit: finite
  public static func areWithin(_ limit: Float, _ x: UnsafePointer<Float>, count: Int) -> Bool {
    // As integers, magnitudes have the order of the numbers, and what is no number is above them.
    var lanes = SIMD16<Int32>(repeating: 0)
    let mask = SIMD16<Int32>(repeating: .max)
    var i = 0
    while i + 16 <= count {
      let next = UnsafeRawPointer(x + i).loadUnaligned(as: SIMD16<Int32>.self) & mask
      lanes.replace(with: next, where: next .> lanes)
      i += 16
    }
    var most = lanes.max()
    while i < count {
      most = max(most, Int32(bitPattern: x[i].bitPattern & 0x7FFF_FFFF))
      i += 1
    }
    return most <= Int32(bitPattern: limit.bitPattern)
  }

  /// Whether Σ x² is a number that f32 has. Where it is not, RMS norm gives zeros or what is no number.
  public func hasFiniteSquares(_ x: UnsafePointer<Float>, count: Int) -> Bool {
    kernels.training.sum_squares(x, count) <= Double(Float.greatestFiniteMagnitude)
  }
}

extension KeyValueLayout.Element {
  /// The largest magnitude that a key or value can have: beyond it, what is kept is another number.
  public var limit: Float { self == .f16 ? 65_504 : .greatestFiniteMagnitude }
}
