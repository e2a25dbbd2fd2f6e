/// Formats with blocks of 256 values that are points of a grid (`GGUFGrid`).
extension GGUFDequantizer {
  /// The signs of eight values by a 7-bit index: the index's bits, and one more that makes the count of minus signs even.
  @inline(__always)
  private static func evenSigns(_ index: UInt32) -> UInt8 {
    let bits = UInt8(truncatingIfNeeded: index & 127)
    return bits | UInt8(truncatingIfNeeded: bits.nonzeroBitCount & 1) << 7
  }

  /// Writes values of a point, each multiplied by a scale, then by the sign that its bit says.
  @inline(__always)
  private static func write(
    _ point: UnsafePointer<Float>, count: Int, scale: Float, signs: UInt8, _ values: Values
  ) {
    for index in 0..<count {
      values[index] = (scale * point[index]) * (signs &>> UInt8(index) & 1 == 0 ? 1 : -1)
    }
  }

  /// f16 d; for each 32 values 4 bytes of indices, then 32 bits: 4 indices of signs, 7 bits each, and a scale of 4 bits.
  static func iq2XXS(_ bytes: Bytes, _ values: Values, _ grid: UnsafePointer<Float>) {
    let d = half(bytes, 0)
    for group in 0..<8 {
      let field = bytes + 2 + group * 8
      let signs = word(field, 4)
      let scale = d * (0.5 + Float(signs >> 28)) * 0.25
      for part in 0..<4 {
        write(
          grid + Int(byte(field, part)) * 8, count: 8, scale: scale, signs: evenSigns(signs &>> UInt32(part * 7)),
          values + group * 32 + part * 8)
      }
    }
  }

  /// f16 d; for each 8 values 9 bits of index and 7 bits of signs; 16 nibbles, scales of 16 values.
  static func iq2XS(_ bytes: Bytes, _ values: Values, _ grid: UnsafePointer<Float>) {
    let d = half(bytes, 0)
    for part in 0..<32 {
      let code = short(bytes, 2 + part * 2)
      let scale = d * (0.5 + Float(nibble(bytes + 66, part / 2))) * 0.25
      write(
        grid + Int(code & 511) * 8, count: 8, scale: scale, signs: evenSigns(UInt32(code >> 9)), values + part * 8)
    }
  }

  /// f16 d; 32 bytes: the lower 8 bits of indices; 32 bytes of signs; 8 bytes: their upper bit pairs; scales as in IQ2_XS.
  static func iq2S(_ bytes: Bytes, _ values: Values, _ grid: UnsafePointer<Float>) {
    let d = half(bytes, 0)
    for part in 0..<32 {
      let upper = byte(bytes, 66 + part / 4) &>> UInt8(part % 4 * 2) & 3
      let point = Int(byte(bytes, 2 + part)) | Int(upper) << 8
      let scale = d * (0.5 + Float(nibble(bytes + 74, part / 2))) * 0.25
      write(grid + point * 8, count: 8, scale: scale, signs: byte(bytes, 34 + part), values + part * 8)
    }
  }

  /// f16 d; 64 bytes: an index for each 4 values; for each 32 values signs and scale as in IQ2_XXS.
  static func iq3XXS(_ bytes: Bytes, _ values: Values, _ grid: UnsafePointer<Float>) {
    let d = half(bytes, 0)
    for group in 0..<8 {
      let field = word(bytes, 66 + group * 4)
      let scale = d * (0.5 + Float(field >> 28)) * 0.5
      for part in 0..<8 {
        let signs = evenSigns(field &>> UInt32(part / 2 * 7)) >> UInt8(part % 2 * 4)
        let point = Int(byte(bytes, 2 + group * 8 + part))
        write(grid + point * 4, count: 4, scale: scale, signs: signs, values + group * 32 + part * 4)
      }
    }
  }

  /// f16 d; 64 bytes: the lower 8 bits of an index for each 4 values; 8 bytes: their upper bits; 32 bytes of signs; 8
  /// nibbles, scales of 32 values.
  static func iq3S(_ bytes: Bytes, _ values: Values, _ grid: UnsafePointer<Float>) {
    let d = half(bytes, 0)
    for part in 0..<64 {
      let upper = byte(bytes, 66 + part / 8) &>> UInt8(part % 8) & 1
      let point = Int(byte(bytes, 2 + part)) | Int(upper) << 8
      let scale = d * Float(1 + 2 * nibble(bytes + 106, part / 8))
      let signs = byte(bytes, 74 + part / 2) >> UInt8(part % 2 * 4)
      write(grid + point * 4, count: 4, scale: scale, signs: signs, values + part * 4)
    }
  }

  /// Writes the sums of a point's values and a shift, multiplied by a scale.
  @inline(__always)
  private static func write(_ point: UnsafePointer<Float>, plus shift: Float, scale: Float, _ values: Values) {
    for index in 0..<8 { values[index] = scale * (point[index] + shift) }
  }

  /// How far the grid of IQ1_S and IQ1_M is shifted, up or down.
  private static let shift: Float = 0.125

  /// f16 d; 32 bytes: the lower 8 bits of indices; for each 32 values 16 bits: the upper 3 bits of 4 indices, 3 bits of
  /// scale, and whether the shift is down.
  static func iq1S(_ bytes: Bytes, _ values: Values, _ grid: UnsafePointer<Float>) {
    let d = half(bytes, 0)
    for part in 0..<32 {
      let field = short(bytes, 34 + part / 4 * 2)
      let scale = d * Float(2 * (field >> 12 & 7) + 1)
      let point = Int(byte(bytes, 2 + part)) | Int(field &>> UInt16(part % 4 * 3) & 7) << 8
      write(grid + point * 8, plus: field & 0x8000 == 0 ? shift : -shift, scale: scale, values + part * 8)
    }
  }

  /// 32 bytes: the lower 8 bits of indices; 32 nibbles: their upper 3 bits, and whether the shift is down; four times 16
  /// bits: 4 scales of 3 bits, and a quarter of f16 d.
  static func iq1M(_ bytes: Bytes, _ values: Values, _ grid: UnsafePointer<Float>) {
    let scales = bytes + 48
    let bits = (0..<4).reduce(UInt16(0)) { $0 | (short(scales, $1 * 2) >> 12) << UInt16($1 * 4) }
    let d = FloatConversion.half(bits)
    for part in 0..<32 {
      let scale = d * Float(2 * (short(scales, part / 8 * 2) &>> UInt16(part / 2 % 4 * 3) & 7) + 1)
      let upper = nibble(bytes + 32, part)
      let point = Int(byte(bytes, part)) | Int(upper & 7) << 8
      write(grid + point * 8, plus: upper & 8 == 0 ? shift : -shift, scale: scale, values + part * 8)
    }
  }
}
