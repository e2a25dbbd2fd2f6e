/// Conversions between f32 and the 16-bit formats of files. Those to f32 are exact, without branches or tables, so that the
/// compiler vectorises them; those from f32 round to the nearest value, to the even one at a tie.
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

  /// 8-bit float with 4 exponent bits and without infinity (OCP 8-bit floating point, 2023): 0x7F and 0xFF are NaN.
  @inline(__always)
  static func float8E4M3(_ bits: UInt8) -> Float {
    let magnitude = Float(bitPattern: UInt32(bits & 0x7F) << 20) * 0x1p120
    let special: UInt32 = bits & 0x7F == 0x7F ? 0x7FC0_0000 : 0
    return Float(bitPattern: magnitude.bitPattern | special | UInt32(bits & 0x80) << 24)
  }

  /// 8-bit float with 5 exponent bits: the upper half of binary16.
  @inline(__always)
  static func float8E5M2(_ bits: UInt8) -> Float { half(UInt16(bits) << 8) }

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

  /// The nearest binary16: infinity beyond its range.
  @inline(__always)
  static func halfBits(_ value: Float) -> UInt16 {
    let sign = UInt32(value.bitPattern >> 16) & 0x8000
    let magnitude = value.bitPattern & 0x7FFF_FFFF
    let bits: UInt32
    if magnitude >= 0x4780_0000 {
      bits = magnitude > 0x7F80_0000 ? 0x7E00 : 0x7C00
    } else if magnitude < 0x3880_0000 {
      // The spacing of f32 at 1/2 is that of binary16's subnormal numbers, so the sum is rounded as they are.
      bits = (Float(bitPattern: magnitude) + 0.5).bitPattern - 0x3F00_0000
    } else {
      // Changes the exponent's bias from 127 to 15, and adds half of the last place that stays.
      bits = (magnitude &+ 0xC800_0FFF &+ (magnitude >> 13 & 1)) >> 13
    }
    return UInt16(truncatingIfNeeded: sign | bits)
  }

  /// The nearest bfloat16: infinity beyond its range.
  @inline(__always)
  static func bfloat16Bits(_ value: Float) -> UInt16 {
    let bits = value.bitPattern
    if value.isNaN { return UInt16(truncatingIfNeeded: bits >> 16 | 0x40) }
    return UInt16(truncatingIfNeeded: (bits &+ 0x7FFF &+ (bits >> 16 & 1)) >> 16)
  }

  /// Converts to little-endian binary16; `destination.count == 2 * source.count`.
  package static func writeHalf(_ source: UnsafeBufferPointer<Float>, into destination: UnsafeMutableRawBufferPointer) {
    precondition(destination.count == source.count * 2)
    for index in source.indices {
      destination.storeBytes(of: halfBits(source[index]).littleEndian, toByteOffset: index * 2, as: UInt16.self)
    }
  }

  /// Converts to little-endian bfloat16; `destination.count == 2 * source.count`.
  package static func writeBFloat16(
    _ source: UnsafeBufferPointer<Float>, into destination: UnsafeMutableRawBufferPointer
  ) {
    precondition(destination.count == source.count * 2)
    for index in source.indices {
      destination.storeBytes(of: bfloat16Bits(source[index]).littleEndian, toByteOffset: index * 2, as: UInt16.self)
    }
  }

  /// The largest magnitude that stays finite when it is rounded to binary16, and to bfloat16.
  package static let largestHalf = Float(65_520).nextDown
  package static let largestBFloat16 = Float(bitPattern: 0x7F7F_7FFF)

  /// Converts little-endian binary64 to the nearest f32, of two equally near ones to the even one; `source.count == 8 *
  /// destination.count`.
  static func double(_ source: UnsafeRawBufferPointer, into destination: UnsafeMutableBufferPointer<Float>) {
    precondition(source.count == destination.count * 8)
    for index in destination.indices {
      let bits = UInt64(littleEndian: source.loadUnaligned(fromByteOffset: index * 8, as: UInt64.self))
      destination[index] = Float(Double(bitPattern: bits))
    }
  }

  /// Converts 8-bit floats; `source.count == destination.count`.
  static func float8(
    _ source: UnsafeRawBufferPointer, into destination: UnsafeMutableBufferPointer<Float>, _ convert: (UInt8) -> Float
  ) {
    precondition(source.count == destination.count)
    for index in destination.indices { destination[index] = convert(source[index]) }
  }

  /// Whether no value is infinite or NaN.
  package static func areFinite(_ values: [Float]) -> Bool {
    // Neither infinity nor NaN: no exponent of ones.
    values.reduce(0) { max($0, $1.bitPattern & 0x7FFF_FFFF) } < 0x7F80_0000 as UInt32
  }
}
