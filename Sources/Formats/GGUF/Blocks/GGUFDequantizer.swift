/// Converts ggml's block formats to f32. Each value is computed by the same f32 operations in the same order as in the
/// Python package `gguf`, every product and sum rounded, so the results are equal bit for bit.
///
/// The comment at each format lists the fields of a block in the order of its bytes. "Less 8" means that 8 is subtracted
/// from each code before it is multiplied by the scale d.
enum GGUFDequantizer {
  /// The first byte of a block.
  typealias Bytes = UnsafeRawPointer
  /// Where a block's values are written.
  typealias Values = UnsafeMutablePointer<Float>

  /// Converts whole blocks.
  /// - Parameter type: has a block layout, which the sizes of `source` and `destination` agree with
  static func dequantize(
    _ source: UnsafeRawBufferPointer, type: GGUFTensorType, into destination: UnsafeMutableBufferPointer<Float>
  ) {
    guard let block = type.block, let base = source.baseAddress, let output = destination.baseAddress else { return }
    let count = destination.count / block.elements
    precondition(source.count == count * block.bytes && destination.count == count * block.elements)

    /// Calls `convert` for each block.
    @inline(__always)
    func each(_ convert: (Bytes, Values) -> Void) {
      for index in 0..<count { convert(base + index * block.bytes, output + index * block.elements) }
    }
    /// Calls `convert` for each block, with the points of a grid.
    @inline(__always)
    func each(_ grid: [Float], _ convert: (Bytes, Values, UnsafePointer<Float>) -> Void) {
      grid.withUnsafeBufferPointer { grid in
        guard let points = grid.baseAddress else { return }
        each { convert($0, $1, points) }
      }
    }
    switch type {
    case .f32: UnsafeMutableRawBufferPointer(destination).copyMemory(from: source)
    case .f16: FloatConversion.half(source, into: destination)
    case .bf16: FloatConversion.bfloat16(source, into: destination)
    case .f64: FloatConversion.double(source, into: destination)
    case .i8: each { $1[0] = Float(Int8(bitPattern: byte($0, 0))) }
    case .i16: each { $1[0] = Float(Int16(bitPattern: short($0, 0))) }
    case .i32: each { $1[0] = Float(Int32(bitPattern: word($0, 0))) }
    case .i64: each { $1[0] = Float(Int64(littleEndian: $0.loadUnaligned(as: Int64.self))) }
    case .q4_0: each(q4_0)
    case .q4_1: each(q4_1)
    case .q5_0: each(q5_0)
    case .q5_1: each(q5_1)
    case .q8_0: each(q8_0)
    case .iq4NL: each(iq4NL)
    case .mxfp4: each(mxfp4)
    case .nvfp4: each(nvfp4)
    case .q2K: each(q2K)
    case .q3K: each(q3K)
    case .q4K: each(q4K)
    case .q5K: each(q5K)
    case .q6K: each(q6K)
    case .tq1_0: each(tq1_0)
    case .tq2_0: each(tq2_0)
    case .iq4XS: each(iq4XS)
    case .iq1S: each(GGUFGrid.iq1, iq1S)
    case .iq1M: each(GGUFGrid.iq1, iq1M)
    case .iq2XXS: each(GGUFGrid.iq2XXS, iq2XXS)
    case .iq2XS: each(GGUFGrid.iq2XS, iq2XS)
    case .iq2S: each(GGUFGrid.iq2S, iq2S)
    case .iq3XXS: each(GGUFGrid.iq3XXS, iq3XXS)
    case .iq3S: each(GGUFGrid.iq3S, iq3S)
    default: preconditionFailure("\(type) has a block layout, but no conversion")
    }
  }

  @inline(__always)
  static func half(_ bytes: Bytes, _ offset: Int) -> Float { FloatConversion.half(short(bytes, offset)) }

  @inline(__always)
  static func byte(_ bytes: Bytes, _ offset: Int) -> UInt8 { bytes.load(fromByteOffset: offset, as: UInt8.self) }

  @inline(__always)
  static func short(_ bytes: Bytes, _ offset: Int) -> UInt16 {
    UInt16(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt16.self))
  }

  @inline(__always)
  static func word(_ bytes: Bytes, _ offset: Int) -> UInt32 {
    UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
  }

  /// One of the 4-bit codes that are packed two to a byte, the even one in the low bits.
  @inline(__always)
  static func nibble(_ bytes: Bytes, _ index: Int) -> UInt8 { byte(bytes, index / 2) &>> UInt8(index % 2 * 4) & 15 }
}
