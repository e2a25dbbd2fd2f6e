import CKernels

/// A weight matrix [outputs, columns] as the kernels read it: groups of 16 rows, a row to a vector lane.
///
/// The memory belongs to `owner`. Outputs are padded to whole groups: a product writes `paddedOutputs` values.
///
/// `@unchecked Sendable`: what the pointers lead to is never written after the matrix was made.
public struct Matrix: @unchecked Sendable {
  public enum Storage: Sendable {
    /// 4-bit codes in tile order, with an absmax for each `block` columns of a row: in f32, and in f16 where integer
    /// products are to read it.
    case nf4(block: Int)
    /// Signed bytes, [group][column pair][16][2], with an f16 scale for each `block` columns of a row.
    case int8(block: Int)
    /// f32 values, [group][column][16].
    case dense
  }

  public let outputs: Int
  public let columns: Int
  public let storage: Storage
  let data: UnsafeRawPointer
  let scale: UnsafePointer<Float>?
  let halfScale: HalfScale?
  let owner: any AnyObject & Sendable

  /// What a product reads of it; an integer product, where it can be read by one.
  public var byteCount: Int {
    switch storage {
    case .nf4(let block):
      TileLayout.codeBytes(outputs: outputs, columns: columns)
        + TileLayout.scaleCount(outputs: outputs, columns: columns, block: block) * (halfScale == nil ? 4 : 2)
    case .int8(let block):
      TileLayout.denseCount(outputs: outputs, columns: columns)
        + TileLayout.scaleCount(outputs: outputs, columns: columns, block: block) * 2
    case .dense: TileLayout.denseCount(outputs: outputs, columns: columns) * 4
    }
  }

  public var groups: Int { TileLayout.groups(outputs) }
  public var paddedOutputs: Int { groups * tileLanes }

  /// - Parameters:
  ///   - codes: `TileLayout.codeBytes` bytes in tile order
  ///   - scale: absmax as [group][columns / block][16]
  ///   - halfScale: the same rounded, without which integer products cannot read the matrix
  ///   - columns: a multiple of 8
  public init(
    nf4 codes: UnsafeRawPointer, scale: UnsafePointer<Float>, halfScale: HalfScale?, outputs: Int, columns: Int,
    block: Int, owner: any AnyObject & Sendable
  ) {
    self.init(.nf4(block: block), codes, scale, halfScale, outputs: outputs, columns: columns, owner: owner)
  }

  /// - Parameters:
  ///   - bytes: [group][column pair][16][2] signed bytes
  ///   - scale: [group][columns / block][16]
  ///   - columns: a multiple of 8
  public init(
    int8 bytes: UnsafeRawPointer, scale: HalfScale, outputs: Int, columns: Int, block: Int,
    owner: any AnyObject & Sendable
  ) {
    self.init(.int8(block: block), bytes, nil, scale, outputs: outputs, columns: columns, owner: owner)
  }

  /// - Parameter values: [group][column][16] floats
  public init(dense values: UnsafePointer<Float>, outputs: Int, columns: Int, owner: any AnyObject & Sendable) {
    self.init(.dense, UnsafeRawPointer(values), nil, nil, outputs: outputs, columns: columns, owner: owner)
  }

  private init(
    _ storage: Storage, _ data: UnsafeRawPointer, _ scale: UnsafePointer<Float>?, _ halfScale: HalfScale?,
    outputs: Int, columns: Int, owner: any AnyObject & Sendable
  ) {
    self.storage = storage
    self.data = data
    self.scale = scale
    self.halfScale = halfScale
    self.outputs = outputs
    self.columns = columns
    self.owner = owner
  }

  /// A dense matrix out of row-major values [outputs, columns].
  public init(rowMajor values: [Float], outputs: Int, columns: Int) {
    precondition(values.count == outputs * columns)
    let buffer = AlignedBuffer<Float>(count: TileLayout.denseCount(outputs: outputs, columns: columns))
    for row in 0..<outputs {
      for column in 0..<columns {
        buffer.pointer[TileLayout.denseIndex(row: row, column: column, columns: columns)] =
          values[row * columns + column]
      }
    }
    self.init(dense: buffer.pointer, outputs: outputs, columns: columns, owner: buffer)
  }

  /// Columns that are summed before they join the total.
  static let denseBlock = 64

  var descriptor: graft_matrix {
    let block =
      switch storage {
      case .nf4(let block), .int8(let block): block
      case .dense: Self.denseBlock
      }
    return graft_matrix(
      data: data, scale: scale, half_scale: halfScale?.values, half_unit: halfScale?.unit ?? 0, columns: columns,
      block: block)
  }

  /// Copies row `row` of a dense matrix (an embedding) to `out`: `columns` floats.
  public func copyRow(_ row: Int, to out: UnsafeMutablePointer<Float>) {
    let values = data.assumingMemoryBound(to: Float.self)
    let first = TileLayout.denseIndex(row: row, column: 0, columns: columns)
    for column in 0..<columns { out[column] = values[first + column * tileLanes] }
  }
}

/// Scales in f16: value · unit, the unit a power of two that brings the largest near the top of f16's range, so that
/// matrices of any magnitude keep eleven bits of their larger scales.
///
/// `@unchecked Sendable`: what the pointer leads to is never written.
public struct HalfScale: @unchecked Sendable {
  let values: UnsafePointer<UInt16>
  let unit: Float

  /// Exponents that a unit may have.
  public static let exponents = -126...113

  /// - Parameter exponent: the unit's, in `exponents`
  public init(values: UnsafePointer<UInt16>, exponent: Int) {
    self.values = values
    unit = Float(sign: .plus, exponent: exponent, significand: 1)
  }

  /// - Parameter scales: finite and not negative
  public static func round(_ scales: [Float]) -> (values: [UInt16], exponent: Int) {
    let largest = scales.max() ?? 0
    let exponent = largest > 0 ? max(Int(largest.exponent) - 14, exponents.lowerBound) : 0
    let inverse = Float(sign: .plus, exponent: -exponent, significand: 1)
    return (scales.map { Float16($0 * inverse).bitPattern }, exponent)
  }
}

/// Where an element of a matrix lies in tile order. The NF4 order is a permutation of the row-major codes
/// (CKernels.h has its picture), so that it can be undone.
public enum TileLayout {
  public static func groups(_ outputs: Int) -> Int { (outputs + tileLanes - 1) / tileLanes }
  public static func denseCount(outputs: Int, columns: Int) -> Int { groups(outputs) * tileLanes * columns }
  public static func denseIndex(row: Int, column: Int, columns: Int) -> Int {
    (row / tileLanes * columns + column) * tileLanes + row % tileLanes
  }
  /// Bytes of codes of a matrix whose column count is a multiple of 8.
  public static func codeBytes(outputs: Int, columns: Int) -> Int { groups(outputs) * columns * tileLanes / 2 }
  public static func scaleCount(outputs: Int, columns: Int, block: Int) -> Int {
    groups(outputs) * (columns / block) * tileLanes
  }
  /// Columns of one row that share a scale when blocks of `blockSize` run over the flattened matrix, as in
  /// bitsandbytes: `blockSize` itself where it divides the columns, else the largest stretch that no block
  /// boundary cuts. `nil` if that is no multiple of 8 columns: such a matrix is kept dense.
  public static func scaleStretch(columns: Int, blockSize: Int) -> Int? {
    var (a, b) = (columns, min(blockSize, 64))
    while b != 0 { (a, b) = (b, a % b) }
    return a % 8 == 0 ? a : nil
  }

  /// Rounds a group of 16 rows to signed bytes, with a scale (largest magnitude / 127) for each `block` columns.
  /// - Parameters:
  ///   - values: [column][16], a group of a dense matrix
  ///   - bytes: columns × 16, written: [column pair][16][2]
  ///   - scale: [columns / block][16], written
  public static func quantizeGroup(
    _ values: UnsafePointer<Float>, columns: Int, block: Int, bytes: UnsafeMutablePointer<Int8>,
    scale: UnsafeMutablePointer<Float>
  ) {
    for b in 0..<columns / block {
      for lane in 0..<tileLanes {
        var highest: Float = 0
        for column in b * block..<(b + 1) * block { highest = max(highest, abs(values[column * tileLanes + lane])) }
        let step = highest / 127
        scale[b * tileLanes + lane] = step
        let inverse = step > 0 ? 1 / step : 0
        for column in b * block..<(b + 1) * block {
          let rounded = (values[column * tileLanes + lane] * inverse).rounded(.toNearestOrEven)
          bytes[(column / 2 * tileLanes + lane) * 2 + column % 2] = Int8(max(-127, min(127, rounded)))
        }
      }
    }
  }

  /// Puts the codes of `rows` rows (a group's, 16 or fewer) into tile order.
  /// - Parameters:
  ///   - codes: one code a byte, [rows][columns]
  ///   - tile: columns × 8 bytes, written; lanes without a row get the code of 0
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
