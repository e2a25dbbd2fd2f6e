/// Block scales quantised once more to 8 bits (QLoRA's double quantisation), as bitsandbytes stores them:
/// `absmax[i] = map[codes[i]] * nestedAbsmax[i / blockSize] + offset`.
public struct DoubleQuantizedAbsmax: Sendable, Equatable {
  public static let blockSize = 256

  /// [n], indices into `map`.
  public var codes: [UInt8]
  /// [⌈n / blockSize⌉]
  public var nestedAbsmax: [Float]
  /// [256], ascending.
  public var map: [Float]
  public var blockSize: Int
  /// The mean of the scales, taken away before they are quantised.
  public var offset: Float

  public init(codes: [UInt8], nestedAbsmax: [Float], map: [Float], blockSize: Int, offset: Float) {
    self.codes = codes
    self.nestedAbsmax = nestedAbsmax
    self.map = map
    self.blockSize = blockSize
    self.offset = offset
  }

  /// Quantises finite scales to the nearest map value, the lower one at a tie.
  /// bitsandbytes looks codes up in a table of 65,536 bins, which differs in about 0.2 % of them by one step.
  public init(encoding absmax: [Float]) {
    let mean = absmax.isEmpty ? 0 : absmax.reduce(0) { $0 + Double($1) } / Double(absmax.count)
    let offset = Float(mean)
    let map = DynamicMap.signed
    var codes = [UInt8](repeating: DynamicMap.zeroCode, count: absmax.count)
    var nested: [Float] = []
    for start in stride(from: 0, to: absmax.count, by: Self.blockSize) {
      let block = start..<min(start + Self.blockSize, absmax.count)
      let largest = block.reduce(Float(0)) { max($0, abs(absmax[$1] - offset)) }
      nested.append(largest)
      guard largest > 0 else { continue }
      for index in block { codes[index] = DynamicMap.nearest((absmax[index] - offset) / largest, in: map) }
    }
    self.init(codes: codes, nestedAbsmax: nested, map: map, blockSize: Self.blockSize, offset: offset)
  }

  /// The scales, [n]. They can come out slightly negative where a block is almost zero.
  public func decoded() -> [Float] {
    precondition(map.count == 256 && blockSize > 0 && nestedAbsmax.count * blockSize >= codes.count)
    return codes.indices.map { index in
      let scaled = map[Int(codes[index])] * nestedAbsmax[index / blockSize]
      return scaled + offset
    }
  }
}

/// The signed 8-bit dynamic data type (Dettmers, 8-bit Approximations for Parallelism in Deep Learning, 2015):
/// a decimal exponent from −6 to 0 and the fraction that the remaining bits hold.
public enum DynamicMap {
  /// Index of the value 0.
  public static let zeroCode: UInt8 = 127

  /// [256], ascending, from −0.99297 to 1; bit for bit bitsandbytes' `create_dynamic_map`.
  public static let signed: [Float] = {
    let powers: [Float] = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1]
    var values: [Float] = [0, 1]
    for (exponent, power) in powers.enumerated() {
      let boundaries = linearSpace(from: 0.1, through: 1, count: (1 << exponent) + 1)
      for index in 0..<(boundaries.count - 1) {
        let magnitude = power * ((boundaries[index] + boundaries[index + 1]) / 2)
        values += [magnitude, -magnitude]
      }
    }
    return values.sorted()
  }()

  /// The code whose value is nearest to `x`, the lower one at a tie.
  static func nearest(_ x: Float, in map: [Float]) -> UInt8 {
    var low = 0
    var high = map.count - 1
    while low < high {
      let middle = (low + high) / 2
      if map[middle] < x { low = middle + 1 } else { high = middle }
    }
    if low > 0, x - map[low - 1] <= map[low] - x { low -= 1 }
    return UInt8(low)
  }

  /// Counts from both ends with fused multiply-adds, because the published map was made so.
  private static func linearSpace(from start: Float, through end: Float, count: Int) -> [Float] {
    let step = (end - start) / Float(count - 1)
    return (0..<count).map { index in
      index < count / 2
        ? start.addingProduct(step, Float(index)) : end.addingProduct(-step, Float(count - 1 - index))
    }
  }
}
