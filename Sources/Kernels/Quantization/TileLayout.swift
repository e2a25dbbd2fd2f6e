/// The order of a matrix's elements in memory, called tile order: groups of 16 rows (`tileLanes`), a row to a vector lane.
/// `graft_matrix` in CKernels describes it. The order of NF4 codes is a permutation of the row-major codes, so it can be
/// undone. Numbers of columns are those of one row.
public enum TileLayout {
  /// Groups of 16 rows that hold so many outputs; the last may be partly padding.
  public static func groups(_ outputs: Int) -> Int { (outputs + tileLanes - 1) / tileLanes }
  /// Elements of a matrix, padding included.
  public static func denseCount(outputs: Int, columns: Int) -> Int { groups(outputs) * tileLanes * columns }
  /// Index of an element of an f32 matrix.
  public static func denseIndex(row: Int, column: Int, columns: Int) -> Int {
    (row / tileLanes * columns + column) * tileLanes + row % tileLanes
  }
  /// Bytes of the codes of an NF4 matrix whose number of columns is a multiple of 8.
  public static func codeBytes(outputs: Int, columns: Int) -> Int { groups(outputs) * columns * tileLanes / 2 }
  /// Scales of a matrix with one for each `block` columns of a row, padding included.
  public static func scaleCount(outputs: Int, columns: Int, block: Int) -> Int {
    groups(outputs) * (columns / block) * tileLanes
  }
  /// Columns of a row that share a scale, where blocks of `blockSize` run over the flattened matrix as in bitsandbytes:
  /// `blockSize` itself if it divides the columns, otherwise the largest number of columns that no block boundary cuts.
  /// At most 64.
  /// - Returns: `nil` if that is not a multiple of 8; such a matrix is kept in f32
  public static func scaleBlock(columns: Int, blockSize: Int) -> Int? {
    var (a, b) = (columns, min(blockSize, 64))
    while b != 0 { (a, b) = (b, a % b) }
    return a % 8 == 0 ? a : nil
  }

  /// Rounds a group of 16 rows to signed bytes, with a scale (largest magnitude / 127) for each `block` columns of a row.
  /// - Parameters:
  ///   - values: [column][16], finite
  ///   - bytes: [column pair][16][2], written
  ///   - scale: [columns / block][16], written
  public static func quantizeGroup(
    _ values: UnsafePointer<Float>, columns: Int, block: Int, bytes: UnsafeMutablePointer<Int8>,
    scale: UnsafeMutablePointer<Float>
  ) {
    for b in 0..<columns / block {
      for lane in 0..<tileLanes {
        var largest: Float = 0
        for column in b * block..<(b + 1) * block { largest = max(largest, abs(values[column * tileLanes + lane])) }
        let step = largest / 127
        scale[b * tileLanes + lane] = step
        // Steps so small that this overflows are as good as 0.
        let inverse = (1 / step).isFinite ? 1 / step : 0
        for column in b * block..<(b + 1) * block {
          let rounded = (values[column * tileLanes + lane] * inverse).rounded(.toNearestOrEven)
          bytes[(column / 2 * tileLanes + lane) * 2 + column % 2] = Int8(max(-127, min(127, rounded)))
        }
      }
    }
  }

  /// Puts the NF4 codes of up to 16 rows, a group's, into tile order.
  /// - Parameters:
  ///   - codes: [rows][columns], one code to a byte
  ///   - tile: columns · 8 bytes, written; lanes without a row get code 7, whose value is 0
  public static func packGroup(
    codes: UnsafePointer<UInt8>, rows: Int, columns: Int, tile: UnsafeMutablePointer<UInt8>
  ) {
    for chunk in 0..<columns / 8 {
      for lane in 0..<tileLanes {
        for j in 0..<4 {
          let low = lane < rows ? codes[lane * columns + chunk * 8 + j] : 7
          let high = lane < rows ? codes[lane * columns + chunk * 8 + 4 + j] : 7
          tile[chunk * 64 + lane * 4 + j] = low | high << 4
        }
      }
    }
  }

  /// The inverse of `packGroup`.
  /// - Parameters:
  ///   - tile: columns · 8 bytes
  ///   - codes: [rows][columns], one code to a byte, written
  public static func unpackGroup(
    tile: UnsafePointer<UInt8>, rows: Int, columns: Int, codes: UnsafeMutablePointer<UInt8>
  ) {
    for row in 0..<rows {
      for column in 0..<columns {
        let byte = tile[column / 8 * 64 + row * 4 + column % 4]
        codes[row * columns + column] = column % 8 < 4 ? byte & 15 : byte >> 4
      }
    }
  }
}
