/// Exact conversions from number formats of files to f32, without branches or tables, so that the compiler vectorises
/// them.
package enum FloatConversion {
  /// IEEE 754 binary16.
  @inline(__always)
  static func half(_ bits: UInt16) -> Float {
    // Multiplying changes the exponent's bias from 15 to 127, and makes subnormal numbers normal.
    let magnitude = Float(bitPattern: UInt32(bits & 0x7FFF) << 13) * 0x1p112
    let special: UInt32 = bits & 0x7C00 == 0x7C00 ? 0x7F80_0000 : 0
    return Float(bitPattern: magnitude.bitPattern | special | UInt32(bits & 0x8000) << 16)
  }

  /// bfloat16: the upper half of an f32.
  @inline(__always)
  static func bfloat16(_ bits: UInt16) -> Float { Float(bitPattern: UInt32(bits) << 16) }

  /// Converts little-endian binary16; `source.count == 2 * destination.count`.
  static func half(_ source: UnsafeRawBufferPointer, into destination: UnsafeMutableBufferPointer<Float>) {
    precondition(source.count == destination.count * 2)
    for index in destination.indices {
      destination[index] = half(UInt16(littleEndian: source.loadUnaligned(fromByteOffset: index * 2, as: UInt16.self)))
    }
  }

  /// Converts little-endian bfloat16; `source.count == 2 * destination.count`.
  static func bfloat16(_ source: UnsafeRawBufferPointer, into destination: UnsafeMutableBufferPointer<Float>) {
    precondition(source.count == destination.count * 2)
    for index in destination.indices {
      destination[index] = bfloat16(
        UInt16(littleEndian: source.loadUnaligned(fromByteOffset: index * 2, as: UInt16.self)))
    }
  }

  /// Whether no value is infinite or NaN.
  package static func areFinite(_ values: [Float]) -> Bool {
    // Neither infinity nor NaN: no exponent of ones.
    values.reduce(0) { max($0, $1.bitPattern & 0x7FFF_FFFF) } < 0x7F80_0000 as UInt32
  }
}
