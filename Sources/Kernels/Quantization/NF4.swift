import CKernels

/// Why the NF4 codec cannot encode a tensor.
public enum NF4Error: Error, Equatable, Sendable {
  /// The value at this index of the input is NaN or infinite.
  case notFinite(index: Int)
}

/// The 4-bit NormalFloat code (Dettmers et al., QLoRA, 2023), bit for bit as bitsandbytes stores it: blocks run over the
/// flattened row-major tensor, each with its largest magnitude (absmax) in f32; a byte holds two codes, the one with the
/// even index in its high four bits.
public enum NF4 {
  /// The value of each code, ascending, relative to the block's absmax.
  public static let values: [Float] = withUnsafeBytes(of: graft_nf4_values) { Array($0.bindMemory(to: Float.self)) }

  /// The default number of elements in a block.
  public static let blockSize = 64

  /// A lower bound of the absmax that a block is divided by. Blocks with only smaller values, and blocks of zeros, are
  /// therefore not scaled up to the full range.
  private static let minimumAbsmax: Float = 1e-38

  /// Bytes of the codes of so many elements.
  public static func packedCount(_ elements: Int) -> Int { (elements + 1) / 2 }

  /// Blocks of so many elements; the last may be shorter.
  public static func blockCount(_ elements: Int, blockSize: Int = NF4.blockSize) -> Int {
    (elements + blockSize - 1) / blockSize
  }

  /// Quantises a tensor, or a range of it that begins with a block and ends with a block or with the tensor.
  ///
  /// - Parameters:
  ///   - values: [n], in row-major order
  ///   - blockSize: even
  ///   - packed: [`packedCount(n)`], written; if n is odd, the low bits of the last byte are code 7, whose value is 0
  ///   - absmax: [`blockCount(n)`], written
  /// - Throws: `NF4Error.notFinite` for NaN and infinity; the outputs are then undefined
  public static func quantize(
    _ values: UnsafeBufferPointer<Float>, blockSize: Int = NF4.blockSize, packed: UnsafeMutableBufferPointer<UInt8>,
    absmax: UnsafeMutableBufferPointer<Float>
  ) throws(NF4Error) {
    precondition(blockSize > 0 && blockSize % 2 == 0)
    precondition(packed.count == packedCount(values.count))
    precondition(absmax.count == blockCount(values.count, blockSize: blockSize))
    guard let source = values.baseAddress, let codes = packed.baseAddress else { return }
    for block in absmax.indices {
      let start = block * blockSize
      let count = min(blockSize, values.count - start)
      let largest = try absoluteMaximum(source + start, count: count, offset: start)
      if count == blockSize {
        absmax[block] = largest
        let scale = 1 / max(largest, minimumAbsmax)
        encode(source + start, count: count, into: codes + start / 2) { $0 * scale }
      } else {
        // bitsandbytes divides in a last, partial block, and stores the divisor.
        let divisor = max(largest, minimumAbsmax)
        absmax[block] = divisor
        encode(source + start, count: count, into: codes + start / 2) { $0 / divisor }
      }
    }
  }

  /// `quantize` into new arrays.
  /// - Throws: `NF4Error.notFinite` for NaN and infinity
  public static func quantize(
    _ values: [Float], blockSize: Int = NF4.blockSize
  ) throws(NF4Error) -> (packed: [UInt8], absmax: [Float]) {
    var packed = [UInt8](repeating: 0, count: packedCount(values.count))
    var absmax = [Float](repeating: 0, count: blockCount(values.count, blockSize: blockSize))
    // The standard library's pointer functions rethrow untyped errors, so the closure returns the error.
    let failure: NF4Error? = values.withUnsafeBufferPointer { source in
      packed.withUnsafeMutableBufferPointer { packed in
        absmax.withUnsafeMutableBufferPointer { absmax in
          do throws(NF4Error) {
            try quantize(source, blockSize: blockSize, packed: packed, absmax: absmax)
            return nil
          } catch {
            return error
          }
        }
      }
    }
    if let failure { throw failure }
    return (packed, absmax)
  }

  /// Decodes a range of a tensor's elements.
  ///
  /// - Parameters:
  ///   - packed: the tensor's codes from its first element to at least the end of the range
  ///   - absmax: the tensor's absmax from its first block to at least the end of the range
  ///   - values: the value of each code, 16
  ///   - elements: indices into the flattened tensor
  ///   - destination: [elements.count] or more, written
  public static func dequantize(
    packed: UnsafeBufferPointer<UInt8>, absmax: UnsafeBufferPointer<Float>, blockSize: Int = NF4.blockSize,
    values: [Float] = NF4.values, elements: Range<Int>, into destination: UnsafeMutableBufferPointer<Float>
  ) {
    precondition(blockSize > 0 && elements.lowerBound >= 0 && values.count == 16)
    precondition(packedCount(elements.upperBound) <= packed.count)
    precondition(blockCount(elements.upperBound, blockSize: blockSize) <= absmax.count)
    precondition(destination.count >= elements.count)
    values.withUnsafeBufferPointer { values in
      var element = elements.lowerBound
      var output = 0
      while element < elements.upperBound {
        let block = element / blockSize
        let scale = absmax[block]
        let end = min((block + 1) * blockSize, elements.upperBound)
        while element < end {
          let byte = packed[element / 2]
          let code = element % 2 == 0 ? byte >> 4 : byte & 15
          destination[output] = values[Int(code)] * scale
          element += 1
          output += 1
        }
      }
    }
  }

  /// Decodes a tensor of `count` elements into a new array.
  public static func dequantize(
    packed: [UInt8], absmax: [Float], count: Int, blockSize: Int = NF4.blockSize
  ) -> [Float] {
    [Float](unsafeUninitializedCapacity: count) { destination, initialized in
      packed.withUnsafeBufferPointer { packed in
        absmax.withUnsafeBufferPointer { absmax in
          dequantize(packed: packed, absmax: absmax, blockSize: blockSize, elements: 0..<count, into: destination)
        }
      }
      initialized = count
    }
  }

  /// The largest magnitude of a block. NaN and infinity are found by their exponent in the same pass.
  /// - Parameter offset: the index of the block's first element, for the error
  private static func absoluteMaximum(
    _ values: UnsafePointer<Float>, count: Int, offset: Int
  ) throws(NF4Error) -> Float {
    // Without their sign, f32 bit patterns compare as integers in the order of the numbers, and NaN is above all numbers.
    var lanes = SIMD8<UInt32>(repeating: 0)
    let raw = UnsafeRawPointer(values)
    var index = 0
    while index + 8 <= count {
      let bits = raw.loadUnaligned(fromByteOffset: index * 4, as: SIMD8<UInt32>.self) & 0x7FFF_FFFF
      lanes.replace(with: bits, where: bits .> lanes)
      index += 8
    }
    var largest = lanes.max()
    while index < count {
      largest = max(largest, values[index].bitPattern & 0x7FFF_FFFF)
      index += 1
    }
    if largest >= 0x7F80_0000 {
      let culprit = (0..<count).first { !values[$0].isFinite } ?? 0
      throw NF4Error.notFinite(index: offset + culprit)
    }
    return Float(bitPattern: largest)
  }

  /// Packs the codes of one block. A value's code is the number of midpoints below it, so a midpoint takes the lower code.
  @inline(__always)
  private static func encode(
    _ values: UnsafePointer<Float>, count: Int, into packed: UnsafeMutablePointer<UInt8>,
    normalize: (SIMD16<Float>) -> SIMD16<Float>
  ) {
    let raw = UnsafeRawPointer(values)
    var index = 0
    while index + 16 <= count {
      let codes = codes(normalize(raw.loadUnaligned(fromByteOffset: index * 4, as: SIMD16<Float>.self)))
      let pairs = codes.evenHalf &<< 4 | codes.oddHalf
      let bytes = SIMD8<UInt8>(truncatingIfNeeded: pairs)
      UnsafeMutableRawPointer(packed).storeBytes(of: bytes, toByteOffset: index / 2, as: SIMD8<UInt8>.self)
      index += 16
    }
    guard index < count else { return }
    var rest = SIMD16<Float>(repeating: 0)
    for lane in 0..<(count - index) { rest[lane] = values[index + lane] }
    let last = codes(normalize(rest))
    for lane in stride(from: 0, to: count - index, by: 2) {
      packed[(index + lane) / 2] = UInt8(truncatingIfNeeded: last[lane] &<< 4 | last[lane + 1])
    }
  }

  @inline(__always)
  private static func codes(_ x: SIMD16<Float>) -> SIMD16<Int32> {
    // The midpoints of neighbouring values, (values[i] + values[i + 1]) / 2 in f32.
    var count = SIMD16<Int32>(repeating: 0)
    let one = SIMD16<Int32>(repeating: 1)
    count.replace(with: count &+ one, where: x .> -0.8480963706970215)
    count.replace(with: count &+ one, where: x .> -0.6106328964233398)
    count.replace(with: count &+ one, where: x .> -0.4599952697753906)
    count.replace(with: count &+ one, where: x .> -0.33967941999435425)
    count.replace(with: count &+ one, where: x .> -0.23460739850997925)
    count.replace(with: count &+ one, where: x .> -0.13791173696517944)
    count.replace(with: count &+ one, where: x .> -0.045525018125772476)
    count.replace(with: count &+ one, where: x .> 0.03979014977812767)
    count.replace(with: count &+ one, where: x .> 0.120255246758461)
    count.replace(with: count &+ one, where: x .> 0.2035212516784668)
    count.replace(with: count &+ one, where: x .> 0.2920137643814087)
    count.replace(with: count &+ one, where: x .> 0.3893125355243683)
    count.replace(with: count &+ one, where: x .> 0.5016634464263916)
    count.replace(with: count &+ one, where: x .> 0.6427869200706482)
    count.replace(with: count &+ one, where: x .> 0.8614784479141235)
    return count
  }
}
