import CKernels

/// A weight matrix [outputs, columns] as the kernels read it, in tile order (`TileLayout`).
///
/// The number of outputs is padded to whole groups of 16, so a product writes `paddedOutputs` values for each row.
///
/// `@unchecked Sendable`: the memory that the pointers lead to is not written after the matrix was made, and `owner` keeps
/// it alive.
public struct Matrix: @unchecked Sendable {
  /// How the weights are stored.
  public enum Storage: Sendable {
    /// NF4 codes in tile order, with an absmax for each `block` columns of a row, in f32. For products of quantised
    /// rows, the absmax is also stored in f16.
    case nf4(block: Int)
    /// Signed bytes, [group][column pair][16][2], with an f16 scale for each `block` columns of a row.
    case int8(block: Int)
    /// f32 values, [group][column][16].
    case dense
  }

  /// Rows of the matrix, without padding.
  public let outputs: Int
  /// Columns of the matrix.
  public let columns: Int
  /// How the weights are stored.
  public let storage: Storage
  let data: UnsafeRawPointer
  let scale: UnsafePointer<Float>?
  let halfScale: HalfScale?
  let owner: any AnyObject & Sendable

  /// Bytes that one product reads: of an NF4 matrix with f16 scales, those of an integer product.
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

  /// Groups of 16 rows.
  public var groups: Int { TileLayout.groups(outputs) }
  /// Rows of the matrix, padding included.
  public var paddedOutputs: Int { groups * tileLanes }

  /// A matrix of NF4 codes.
  /// - Parameters:
  ///   - codes: `TileLayout.codeBytes` bytes in tile order
  ///   - scale: absmax, [group][columns / block][16]
  ///   - halfScale: the same in f16; without it, products of quantised rows cannot read the matrix
  ///   - columns: a multiple of 8
  ///   - block: columns that share a scale: 8, 16, 32 or 64
  ///   - owner: keeps the memory alive and unchanged
  public init(
    nf4 codes: UnsafeRawPointer, scale: UnsafePointer<Float>, halfScale: HalfScale?, outputs: Int, columns: Int,
    block: Int, owner: any AnyObject & Sendable
  ) {
    self.init(.nf4(block: block), codes, scale, halfScale, outputs: outputs, columns: columns, owner: owner)
  }

  /// A matrix of signed bytes.
  /// - Parameters:
  ///   - bytes: [group][column pair][16][2]
  ///   - scale: [group][columns / block][16]
  ///   - columns: a multiple of 8
  ///   - block: columns that share a scale: 8, 16, 32 or 64
  ///   - owner: keeps the memory alive and unchanged
  public init(
    int8 bytes: UnsafeRawPointer, scale: HalfScale, outputs: Int, columns: Int, block: Int,
    owner: any AnyObject & Sendable
  ) {
    self.init(.int8(block: block), bytes, nil, scale, outputs: outputs, columns: columns, owner: owner)
  }

  /// A matrix of f32 values.
  /// - Parameters:
  ///   - values: [group][column][16]
  ///   - owner: keeps the memory alive and unchanged
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

  /// A matrix of f32 values, copied from row-major order.
  /// - Parameter values: [outputs][columns]
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

  /// Columns of a dense matrix whose products are summed before they are added to the total.
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

  /// Copies a row of a dense matrix, such as a token's embedding.
  /// - Parameter out: [columns], written
  public func copyRow(_ row: Int, to out: UnsafeMutablePointer<Float>) {
    let values = data.assumingMemoryBound(to: Float.self)
    let first = TileLayout.denseIndex(row: row, column: 0, columns: columns)
    for column in 0..<columns { out[column] = values[first + column * tileLanes] }
  }
}
