/// Memory for gradients that are rounded to bf16 and packed for `Compute.productBackward`.
public struct PackedGradient: Sendable {
  let values: AlignedBuffer<UInt16>

  /// - Parameter count: the maximum of `count(rows:outputs:)`
  public init(count: Int) { values = AlignedBuffer(count: count) }

  /// Values of the gradients of so many rows and outputs: whole tiles of 16 rows and 32 outputs.
  public static func count(rows: Int, outputs: Int) -> Int { (rows + 15) / 16 * tileCount(outputs: outputs) }

  /// Values of a tile of 16 rows.
  static func tileCount(outputs: Int) -> Int { (outputs + 31) / 32 * 32 * 16 }
}
