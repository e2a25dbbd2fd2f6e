/// Converts ggml's block formats to f32. Each value is computed by the same f32 operations in the same order as in the
/// Python package `gguf`, every product and sum rounded, so the results are equal bit for bit.
///
/// The comment at each format lists the fields of a block in the order of its bytes. "Less 8" means that 8 is subtracted
/// from each code before it is multiplied by the scale d.
enum GGUFDequantizer {
  /// Converts whole blocks.
  /// - Parameter type: has a block layout, which the sizes of `source` and `destination` agree with
  static func dequantize(
    _ source: UnsafeRawBufferPointer, type: GGUFTensorType, into destination: UnsafeMutableBufferPointer<Float>
  ) {
    guard let block = type.block, let base = source.baseAddress, let output = destination.baseAddress else { return }
    let count = destination.count / block.elements
    precondition(source.count == count * block.bytes && destination.count == count * block.elements)
    switch type {
    case .f32: UnsafeMutableRawBufferPointer(destination).copyMemory(from: source)
    case .f16: FloatConversion.half(source, into: destination)
    case .bf16: FloatConversion.bfloat16(source, into: destination)
    default:
      for index in 0..<count {
        let bytes = base + index * block.bytes
        let values = output + index * block.elements
        switch type {
        case .q4_0: q4_0(bytes, values)
        case .q4_1: q4_1(bytes, values)
        case .q5_0: q5_0(bytes, values)
        case .q5_1: q5_1(bytes, values)
        case .q8_0: q8_0(bytes, values)
        case .q4K: q4K(bytes, values)
        case .q5K: q5K(bytes, values)
        default: q6K(bytes, values)
        }
      }
    }
  }

  private typealias Bytes = UnsafeRawPointer
  private typealias Values = UnsafeMutablePointer<Float>

  @inline(__always)
  private static func half(_ bytes: Bytes, _ offset: Int) -> Float {
    FloatConversion.half(UInt16(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt16.self)))
  }

  @inline(__always)
  private static func byte(_ bytes: Bytes, _ offset: Int) -> UInt8 {
    bytes.load(fromByteOffset: offset, as: UInt8.self)
  }

  @inline(__always)
  private static func word(_ bytes: Bytes, _ offset: Int) -> UInt32 {
    UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
  }

  /// f16 d; 16 bytes: low nibbles, then high ones, less 8.
  private static func q4_0(_ bytes: Bytes, _ values: Values) {
    let d = half(bytes, 0)
    for index in 0..<16 {
      let pair = byte(bytes, 2 + index)
      values[index] = d * Float(Int32(pair & 15) &- 8)
      values[index + 16] = d * Float(Int32(pair >> 4) &- 8)
    }
  }

  /// f16 d, f16 m; nibbles as in Q4_0, without an offset.
  private static func q4_1(_ bytes: Bytes, _ values: Values) {
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
  private static func q5_0(_ bytes: Bytes, _ values: Values) {
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
  private static func q5_1(_ bytes: Bytes, _ values: Values) {
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
  private static func q8_0(_ bytes: Bytes, _ values: Values) {
    let d = half(bytes, 0)
    for index in 0..<32 { values[index] = Float(Int8(bitPattern: byte(bytes, 2 + index))) * d }
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
  private static func q4K(_ bytes: Bytes, _ values: Values) {
    eightGroups(bytes, values, nibblesAt: 16) { _, _ in 0 }
  }

  /// As Q4_K, with 32 bytes of fifth bits, bit `group` of byte `index`, before the nibbles.
  private static func q5K(_ bytes: Bytes, _ values: Values) {
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
  private static func q6K(_ bytes: Bytes, _ values: Values) {
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
}
