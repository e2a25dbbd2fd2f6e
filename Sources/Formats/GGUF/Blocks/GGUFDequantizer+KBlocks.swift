/// Formats with blocks of 256 values: 2 to 6 bits with scales of groups, and ternary ones.
extension GGUFDequantizer {
  /// One of 256 2-bit codes: byte i of either 32 bytes has the codes i, i + 32, i + 64 and i + 96 of a half of the block.
  @inline(__always)
  private static func pair(_ bytes: Bytes, _ index: Int) -> UInt8 {
    byte(bytes, index / 128 * 32 + index % 32) &>> UInt8(index % 128 / 32 * 2) & 3
  }

  /// 16 bytes: the 4-bit scale and, in the high nibble, minimum of each group of 16; 64 bytes of 2-bit codes; f16 d, f16 dmin.
  static func q2K(_ bytes: Bytes, _ values: Values) {
    let d = half(bytes, 80)
    let dmin = half(bytes, 82)
    for group in 0..<16 {
      let scales = byte(bytes, group)
      let step = d * Float(scales & 15)
      let offset = dmin * Float(scales >> 4)
      for index in group * 16..<group * 16 + 16 {
        let product = step * Float(pair(bytes + 16, index))
        values[index] = product - offset
      }
    }
  }

  /// 32 bytes of third bits; 64 bytes of 2-bit codes; 12 bytes of 6-bit scales, less 32, of 16 groups; f16 d. A code whose
  /// third bit is 0 is less 4.
  static func q3K(_ bytes: Bytes, _ values: Values) {
    let d = half(bytes, 108)
    let scales = bytes + 96
    for group in 0..<16 {
      let low = byte(scales, group % 8) &>> UInt8(group / 8 * 4) & 15
      let high = byte(scales, 8 + group % 4) &>> UInt8(group / 4 * 2) & 3
      let step = d * Float(Int32(low | high &<< 4) &- 32)
      for index in group * 16..<group * 16 + 16 {
        let third = byte(bytes, index % 32) &>> UInt8(index / 32) & 1
        values[index] = step * Float(Int32(pair(bytes + 32, index)) &- Int32((third ^ 1) &<< 2))
      }
    }
  }

  /// The 6-bit scale and minimum of one of 8 groups, out of the 12 bytes that all of them are packed into.
  @inline(__always)
  private static func scaleAndMinimum(_ scales: Bytes, _ group: Int) -> (scale: Float, minimum: Float) {
    if group < 4 { return (Float(byte(scales, group) & 63), Float(byte(scales, group + 4) & 63)) }
    let low = byte(scales, group + 4)
    let scale = low & 15 | byte(scales, group - 4) >> 2 & 0x30
    let minimum = low >> 4 | byte(scales, group) >> 2 & 0x30
    return (Float(scale), Float(minimum))
  }

  /// f16 d, f16 dmin; 12 bytes of scales; 128 bytes of nibbles, 32 low then 32 high.
  static func q4K(_ bytes: Bytes, _ values: Values) {
    eightGroups(bytes, values, nibblesAt: 16) { _, _ in 0 }
  }

  /// As Q4_K, with 32 bytes of fifth bits, bit `group` of byte `index`, before the nibbles.
  static func q5K(_ bytes: Bytes, _ values: Values) {
    eightGroups(bytes, values, nibblesAt: 48) { group, index in
      (byte(bytes, 16 + index) &>> UInt8(group) & 1) &<< 4
    }
  }

  /// Converts eight groups of 32 values. A code is a nibble, with the bits that `high` gives above it.
  @inline(__always)
  private static func eightGroups(
    _ bytes: Bytes, _ values: Values, nibblesAt first: Int, high: (_ group: Int, _ index: Int) -> UInt8
  ) {
    let d = half(bytes, 0)
    let dmin = half(bytes, 2)
    for group in 0..<8 {
      let (scale, minimum) = scaleAndMinimum(bytes + 4, group)
      let step = d * scale
      let offset = dmin * minimum
      let shift = UInt8(group % 2 * 4)
      for index in 0..<32 {
        let low = byte(bytes, first + group / 2 * 32 + index) &>> shift & 15
        let product = step * Float(low | high(group, index))
        values[group * 32 + index] = product - offset
      }
    }
  }

  /// 128 bytes of low nibbles, 64 of upper bit pairs, 16 signed scales, f16 d; less 32.
  static func q6K(_ bytes: Bytes, _ values: Values) {
    let d = half(bytes, 208)
    for group in 0..<8 {
      // In each half of the block, groups 0 and 1 are the low nibbles of bytes 0-31 and 32-63, groups 2 and 3 their high
      // nibbles.
      let low = bytes + group / 4 * 64 + group % 2 * 32
      let high = bytes + 128 + group / 4 * 32
      let nibbleShift = UInt8(group % 4 / 2 * 4)
      let pairShift = UInt8(group % 4 * 2)
      for index in 0..<32 {
        let scale = Float(Int8(bitPattern: byte(bytes, 192 + group * 2 + index / 16)))
        let nibble = byte(low, index) &>> nibbleShift & 15
        let pair = byte(high, index) &>> pairShift & 3
        values[group * 32 + index] = (d * scale) * Float(Int32(nibble | pair &<< 4) &- 32)
      }
    }
  }

  /// 48 + 4 bytes, each of five (or, the last 4, of four) digits to the base 3, less 1, as fractions of 256; f16 d.
  static func tq1_0(_ bytes: Bytes, _ values: Values) {
    let d = half(bytes, 52)
    var output = 0
    for (first, count, digits) in [(0, 32, 5), (32, 16, 5), (48, 4, 4)] {
      var power: UInt8 = 1
      for _ in 0..<digits {
        for index in 0..<count {
          // What is above the digit is cut off by the overflow.
          let fraction = byte(bytes, first + index) &* power
          values[output] = d * Float(Int32((UInt16(fraction) * 3) >> 8) &- 1)
          output += 1
        }
        power &*= 3
      }
    }
  }

  /// 64 bytes of 2-bit codes, less 1; f16 d.
  static func tq2_0(_ bytes: Bytes, _ values: Values) {
    let d = half(bytes, 64)
    for index in 0..<256 { values[index] = d * Float(Int32(pair(bytes, index)) &- 1) }
  }

  /// f16 d; 16 upper bit pairs and 8 nibbles, the scales, less 32, of groups of 32; for each group 16 bytes of nibbles as in
  /// Q4_0, indices of `unevenValues`.
  static func iq4XS(_ bytes: Bytes, _ values: Values) {
    let d = half(bytes, 0)
    let high = short(bytes, 2)
    unevenValues.withUnsafeBufferPointer { table in
      for group in 0..<8 {
        let upper = UInt8(truncatingIfNeeded: high &>> UInt16(group * 2) & 3)
        let step = d * Float(Int32(nibble(bytes + 4, group) | upper &<< 4) &- 32)
        for index in 0..<16 {
          let pair = byte(bytes, 8 + group * 16 + index)
          values[group * 32 + index] = step * table[Int(pair & 15)]
          values[group * 32 + index + 16] = step * table[Int(pair >> 4)]
        }
      }
    }
  }
}
