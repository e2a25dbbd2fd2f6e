import CKernels

/// y = x · Wᵀ in a compute mode's arithmetic, in steps that threads share: first the rows of x are quantised, part by part,
/// if the product is an integer product; then ranges of W's groups are computed.
///
/// `@unchecked Sendable`: parts and ranges write to different memory, and the caller keeps all of it alive.
struct BaseProduct: @unchecked Sendable {
  /// Columns of W and of x.
  let columns: Int
  private let rows: Int
  private let x: UnsafePointer<Float>
  private let y: UnsafeMutablePointer<Float>?
  private let ldy: Int
  private let matrix: graft_matrix
  private let functions: graft_kernels
  private let kind: Kind
  private let quantized: QuantizedRows

  private enum Kind {
    case nf4, dense
    case integer(block: Int, isNF4: Bool)
  }

  private static let rowsPerPart = 4

  /// - Parameters:
  ///   - x: [rows][columns]
  ///   - quantized: memory for the rows, if they are quantised
  ///   - y: [rows][paddedOutputs], written; `nil` if rows are only quantised
  init(
    _ compute: Compute, _ w: Matrix, _ x: UnsafePointer<Float>, rows: Int, quantized: QuantizedRows,
    into y: UnsafeMutablePointer<Float>?
  ) {
    self.rows = rows
    self.x = x
    self.y = y
    self.quantized = quantized
    (columns, ldy, matrix, functions) = (w.columns, w.paddedOutputs, w.descriptor, compute.kernels.functions)
    kind =
      switch (w.storage, compute.mode) {
      case (.dense, _): .dense
      case (.nf4, .f32): .nf4
      case (.nf4(let block), _): .integer(block: block, isNF4: true)
      case (.int8(let block), _): .integer(block: block, isNF4: false)
      }
    if case .integer = kind { precondition(w.halfScale != nil, "a base opened for f32, computed with in another mode") }
  }

  /// Parts in which the rows are quantised; 0 if the product reads them as they are.
  var quantizationParts: Int {
    if case .integer = kind { (rows + Self.rowsPerPart - 1) / Self.rowsPerPart } else { 0 }
  }

  /// Quantises one part of the rows.
  func quantize(part: Int) {
    guard case .integer(let block, _) = kind else { return }
    for row in part * Self.rowsPerPart..<min((part + 1) * Self.rowsPerPart, rows) {
      functions.quantize(
        x + row * columns, columns, block, rows, quantized.values.pointer + row * block, quantized.scale.pointer + row)
    }
  }

  /// Writes the outputs of some of W's groups. All rows must have been quantised.
  /// - Parameter prefetches: bytes that are brought into the cache meanwhile; ignored unless it is an integer product
  func compute(_ groups: Range<Int>, prefetches: UnsafeBufferPointer<graft_fetch> = .init(start: nil, count: 0)) {
    withUnsafePointer(to: matrix) { matrix in
      switch kind {
      case .nf4: functions.nf4_product(matrix, x, columns, rows, y, ldy, groups.lowerBound, groups.upperBound)
      case .dense:
        functions.dense_product(matrix, x, columns, rows, y, ldy, groups.lowerBound, groups.upperBound)
      case .integer(let block, let isNF4):
        let activations = graft_activations(
          q: quantized.values.pointer, scale: quantized.scale.pointer, columns: columns, block: block, stride: rows)
        withUnsafePointer(to: activations) { activations in
          let kernel = isNF4 ? functions.nf4_integer_product! : functions.int8_integer_product!
          kernel(
            matrix, activations, rows, y, ldy, groups.lowerBound, groups.upperBound, prefetches.baseAddress,
            prefetches.count)
        }
      }
    }
  }
}
