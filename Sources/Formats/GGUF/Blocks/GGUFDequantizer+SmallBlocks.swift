/// Formats with blocks of 32 or 64 values.
extension GGUFDequantizer {
  /// f16 d; 16 bytes: low nibbles, then high ones, less 8.
  static func q4_0(_ bytes: Bytes, _ values: Values) {
    let d = half(bytes, 0)
    for index in 0..<16 {
      let pair = byte(bytes, 2 + index)
      values[index] = d * Float(Int32(pair & 15) &- 8)
      values[index + 16] = d * Float(Int32(pair >> 4) &- 8)
    }
  }

  /// f16 d, f16 m; nibbles as in Q4_0, without an offset.
  static func q4_1(_ bytes: Bytes, _ values: Values) {
    let d = half(bytes, 0)
    let m = half(bytes, 2)
    for index in 0..<16 {
      let pair = byte(bytes, 4 + index)
      let low = d * Float(pair & 15)
      let high = d * Float(pair >> 4)
      values[index] = low + m
      values[index + 16] = high + m
    }
  }

  /// f16 d; 32 fifth bits; nibbles; less 16.
  static func q5_0(_ bytes: Bytes, _ values: Values) {
    let d = half(bytes, 0)
    let fifth = word(bytes, 2)
    for index in 0..<16 {
      let pair = byte(bytes, 6 + index)
      let low = UInt32(pair & 15) | (fifth &>> UInt32(index) & 1) &<< 4
      let high = UInt32(pair >> 4) | (fifth &>> UInt32(index + 16) & 1) &<< 4
      values[index] = d * Float(Int32(low) &- 16)
      values[index + 16] = d * Float(Int32(high) &- 16)
    }
  }

  /// f16 d, f16 m; 32 fifth bits; nibbles.
  static func q5_1(_ bytes: Bytes, _ values: Values) {
    let d = half(bytes, 0)
    let m = half(bytes, 2)
    let fifth = word(bytes, 4)
    for index in 0..<16 {
      let pair = byte(bytes, 8 + index)
      let low = d * Float(UInt32(pair & 15) | (fifth &>> UInt32(index) & 1) &<< 4)
      let high = d * Float(UInt32(pair >> 4) | (fifth &>> UInt32(index + 16) & 1) &<< 4)
      values[index] = low + m
      values[index + 16] = high + m
    }
  }

  /// f16 d; 32 signed bytes.
  static func q8_0(_ bytes: Bytes, _ values: Values) {
    let d = half(bytes, 0)
    for index in 0..<32 { values[index] = Float(Int8(bitPattern: byte(bytes, 2 + index))) * d }
  }

  /// f16 d; nibbles as in Q4_0, indices of `unevenValues`.
  static func iq4NL(_ bytes: Bytes, _ values: Values) {
    let d = half(bytes, 0)
    unevenValues.withUnsafeBufferPointer { table in
      for index in 0..<16 {
        let pair = byte(bytes, 2 + index)
        values[index] = d * table[Int(pair & 15)]
        values[index + 16] = d * table[Int(pair >> 4)]
      }
    }
  }

  /// The values of IQ4_NL's and IQ4_XS's codes.
  static let unevenValues: [Float] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113]

  /// The doubled values of 4-bit floats with two exponent bits, by their bits.
  private static let smallFloats: [Float] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12]

  /// 8 bits e, half of d = 2^(e - 127); nibbles as in Q4_0, 4-bit floats.
  static func mxfp4(_ bytes: Bytes, _ values: Values) {
    let exponent = UInt32(byte(bytes, 0))
    // The half of a power of two whose exponent is 0 or 1 is a subnormal number.
    let d = Float(bitPattern: exponent < 2 ? 0x0020_0000 &<< exponent : (exponent - 1) << 23)
    smallFloats.withUnsafeBufferPointer { table in
      for index in 0..<16 {
        let pair = byte(bytes, 1 + index)
        values[index] = d * table[Int(pair & 15)]
        values[index + 16] = d * table[Int(pair >> 4)]
      }
    }
  }

  /// 4 scales, each an 8-bit float; for each scale 8 bytes of 4-bit floats, low nibbles, then high ones.
  static func nvfp4(_ bytes: Bytes, _ values: Values) {
    smallFloats.withUnsafeBufferPointer { table in
      for group in 0..<4 {
        let d = halfOfScale(byte(bytes, group))
        for index in 0..<8 {
          let pair = byte(bytes, 4 + group * 8 + index)
          values[group * 16 + index] = d * table[Int(pair & 15)]
          values[group * 16 + index + 8] = d * table[Int(pair >> 4)]
        }
      }
    }
  }

  /// Half of an 8-bit float with 4 exponent bits, whose sign is ignored; 0 for 0x7F.
  private static func halfOfScale(_ bits: UInt8) -> Float {
    if bits == 0x7F { return 0 }
    return Float(bitPattern: UInt32(bits & 0x7F) << 20) * 0x1p119
  }
}
