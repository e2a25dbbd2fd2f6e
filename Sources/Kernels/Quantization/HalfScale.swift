/// Block scales in f16, which products of quantised rows read: scale = value · unit. The unit is a power of two, chosen
/// for each matrix so that its largest scale is near the maximum of f16. So in matrices of any magnitude, the larger
/// scales keep eleven significant bits.
///
/// The memory that the pointer leads to is not written after the value was created.
public struct HalfScale {
  let values: UnsafePointer<UInt16>
  let unit: Float

  /// The exponents that a unit may have.
  public static let exponents = -126...113

  /// - Parameters:
  ///   - values: f16 bit patterns in the order of the matrix's scales, kept alive by the matrix's owner
  ///   - exponent: the unit is 2 to this power; within `exponents`
  public init(values: UnsafePointer<UInt16>, exponent: Int) {
    self.values = values
    unit = Float(sign: .plus, exponent: exponent, significand: 1)
  }

  /// Rounds scales to f16, to nearest, with ties to even.
  /// - Parameter scales: finite
  /// - Returns: f16 bit patterns in the same order, and the unit's exponent
  public static func round(_ scales: [Float]) -> (values: [UInt16], exponent: Int) {
    let largest = scales.reduce(0) { max($0, abs($1)) }
    let exponent = largest > 0 ? max(Int(largest.exponent) - 14, exponents.lowerBound) : 0
    let inverse = Float(sign: .plus, exponent: -exponent, significand: 1)
    return (scales.map { Float16($0 * inverse).bitPattern }, exponent)
  }
}
