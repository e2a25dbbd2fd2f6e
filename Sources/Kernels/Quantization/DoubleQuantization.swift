/// The scales of NF4 blocks, quantised to 8 bits in blocks of their own (double quantisation; Dettmers et al., QLoRA, 2023),
/// as bitsandbytes stores them: `absmax[i] = map[codes[i]] * nestedAbsmax[i / blockSize] + offset`.
public struct DoubleQuantizedAbsmax: Sendable, Equatable {
  /// The default number of scales in a block.
  public static let blockSize = 256

  /// Indices into `map`, one for each scale: [n].
  public var codes: [UInt8]
  /// The largest magnitude of each block of scales: [⌈n / blockSize⌉].
  public var nestedAbsmax: [Float]
  /// The values of codes relative to their block's largest magnitude: [256], ascending.
  public var map: [Float]
  /// Scales of a block.
  public var blockSize: Int
  /// The mean of the scales, which is subtracted before they are quantised.
  public var offset: Float

  /// - Parameters: as the properties
  public init(codes: [UInt8], nestedAbsmax: [Float], map: [Float], blockSize: Int, offset: Float) {
    self.codes = codes
    self.nestedAbsmax = nestedAbsmax
    self.map = map
    self.blockSize = blockSize
    self.offset = offset
  }

  /// Quantises scales to the nearest value of `DynamicMap.signed`, the lower one at a tie. bitsandbytes finds codes by a table
  /// of 65,536 bins; about 0.2 % of its codes differ from these by one.
  /// - Parameter absmax: finite
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

  /// The scales, [n]. That of a block of almost only zeros may be slightly negative.
  public func decoded() -> [Float] {
    precondition(map.count == 256 && blockSize > 0 && nestedAbsmax.count * blockSize >= codes.count)
    return codes.indices.map { index in
      let scaled = map[Int(codes[index])] * nestedAbsmax[index / blockSize]
      return scaled + offset
    }
  }
}

/// The signed 8-bit dynamic data type (Dettmers, 8-bit Approximations for Parallelism in Deep Learning, 2015): a decimal
/// exponent from −6 to 0, and a fraction in the bits that the exponent leaves.
public enum DynamicMap {
  /// The code of the value 0.
  public static let zeroCode: UInt8 = 127

  /// The value of each code: [256], ascending, from −0.99297 to 1. Bit for bit those of bitsandbytes' `create_dynamic_map`.
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

  /// `count` evenly spaced values. The first half is computed from the start and the second from the end, with fused
  /// multiply-adds, because the published map was made so.
  private static func linearSpace(from start: Float, through end: Float, count: Int) -> [Float] {
    let step = (end - start) / Float(count - 1)
    return (0..<count).map { index in
      index < count / 2
        ? start.addingProduct(step, Float(index)) : end.addingProduct(-step, Float(count - 1 - index))
    }
  }
}
