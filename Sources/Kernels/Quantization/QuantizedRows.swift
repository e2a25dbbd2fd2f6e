/// Memory for quantised rows of activations: 13-bit signed integers with an f32 scale for each block of a row. The integers of
/// many rows are pairs of bytes on AMX.
public struct QuantizedRows: Sendable {
  /// [columns / block][rows][block]
  let values: AlignedBuffer<Int16>
  /// [columns / block][rows]
  let scale: AlignedBuffer<Float>

  /// - Parameters:
  ///   - rows: maximum number of rows
  ///   - columns: maximum of the matrices that the rows are multiplied with
  public init(rows: Int, columns: Int) {
    values = AlignedBuffer(count: rows * columns)
    // A block has at least 8 columns.
    scale = AlignedBuffer(count: rows * (columns / 8))
  }

  /// Bytes that `init` with these numbers allocates.
  public static func bytes(rows: Int, columns: Int) -> Int {
    rows * columns * MemoryLayout<Int16>.size + rows * (columns / 8) * MemoryLayout<Float>.size
  }
}
