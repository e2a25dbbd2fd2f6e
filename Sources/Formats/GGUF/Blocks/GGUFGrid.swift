/// A grid of ggml's IQ formats: points of 4 or 8 values, one of which an index stands for.
enum GGUFGrid {
  /// 2048 points of 8 values -1, 0 or 1: IQ1_S and IQ1_M.
  static let iq1 = points(GGUFGridCodes.iq1s, bits: 2, values: [-1, 0, 1, 0])
  /// 256 points of 8 values.
  static let iq2XXS = points(GGUFGridCodes.iq2xxs, bits: 2, values: [8, 25, 43, 0])
  /// 512 points of 8 values.
  static let iq2XS = points(GGUFGridCodes.iq2xs, bits: 2, values: [8, 25, 43, 0])
  /// 1024 points of 8 values.
  static let iq2S = points(GGUFGridCodes.iq2s, bits: 2, values: [8, 25, 43, 0])
  /// 256 points of 4 values.
  static let iq3XXS = points(GGUFGridCodes.iq3xxs, bits: 4, values: [4, 12, 20, 28, 36, 44, 52, 62])
  /// 512 points of 4 values.
  static let iq3S = points(GGUFGridCodes.iq3s, bits: 4, values: [1, 3, 5, 7, 9, 11, 13, 15])

  /// The values of all points, one after another.
  /// - Parameters:
  ///   - digits: two hexadecimal digits a byte, the first code in a byte's low bits
  ///   - bits: of a code, 2 or 4
  ///   - values: by code
  private static func points(_ digits: String, bits: UInt8, values: [Float]) -> [Float] {
    let digits = digits.utf8.map { $0 < 0x40 ? $0 & 15 : $0 & 15 + 9 }
    return stride(from: 0, to: digits.count, by: 2).flatMap { index in
      let byte = digits[index] << 4 | digits[index + 1]
      return stride(from: 0, to: 8, by: Int(bits)).map { values[Int(byte >> UInt8($0) & (1 << bits - 1))] }
    }
  }
}
