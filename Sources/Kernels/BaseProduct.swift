import CKernels

/// One product of rows with a matrix, in the mode's arithmetic: its rows rounded part by part, then any ranges of the
/// matrix's groups.
///
/// `@unchecked Sendable`: parts and ranges write apart from each other, and the caller keeps what they read.
struct BaseProduct: @unchecked Sendable {
  let columns: Int
  private let rows: Int
  private let x: UnsafePointer<Float>
  private let y: UnsafeMutablePointer<Float>?
  private let ldy: Int
  private let matrix: graft_matrix
  private let functions: graft_kernels
  private let kind: Kind
  private let rounded: RoundedRows

  private enum Kind {
    case nf4, dense
    case integer(block: Int, isNF4: Bool)
  }

  private static let rowsAPart = 4

  /// - Parameters:
  ///   - x: [rows][columns]
  ///   - y: [rows][paddedOutputs]; not needed for rounding
  init(
    _ compute: Compute, _ w: Matrix, _ x: UnsafePointer<Float>, rows: Int, rounded: RoundedRows,
    into y: UnsafeMutablePointer<Float>?
  ) {
    self.rows = rows
    self.x = x
    self.y = y
    self.rounded = rounded
    (columns, ldy, matrix, functions) = (w.columns, w.paddedOutputs, w.descriptor, compute.kernels.functions)
    let block = compute.roundingBlock(w)
    kind =
      switch (w.storage, block) {
      case (.nf4, nil): .nf4
      case (.nf4, let block?): .integer(block: block, isNF4: true)
      case (.int8(let block), _): .integer(block: block, isNF4: false)
      case (.dense, _): .dense
      }
    if case .integer = kind { precondition(w.halfScale != nil, "a base opened for f32, computed with in another mode") }
  }

  /// How many parts the rounding of the rows has; 0 where they stay as they are.
  var roundingParts: Int {
    if case .integer = kind { (rows + Self.rowsAPart - 1) / Self.rowsAPart } else { 0 }
  }

  func round(part: Int) {
    guard case .integer(let block, _) = kind else { return }
    for row in part * Self.rowsAPart..<min((part + 1) * Self.rowsAPart, rows) {
      functions.quantize(
        x + row * columns, columns, block, rows, rounded.values.pointer + row * block, rounded.scale.pointer + row)
    }
  }

  /// Writes the outputs of some groups of the matrix; the rows are rounded by now.
  /// - Parameter fetches: brought into the cache meanwhile, by the modes of rounded rows
  func compute(_ groups: Range<Int>, fetches: UnsafeBufferPointer<graft_fetch> = .init(start: nil, count: 0)) {
    withUnsafePointer(to: matrix) { matrix in
      switch kind {
      case .nf4: functions.nf4_product(matrix, x, columns, rows, y, ldy, groups.lowerBound, groups.upperBound)
      case .dense:
        functions.dense_product(matrix, x, columns, rows, y, ldy, groups.lowerBound, groups.upperBound)
      case .integer(let block, let isNF4):
        let activations = graft_activations(
          q: rounded.values.pointer, scale: rounded.scale.pointer, columns: columns, block: block, stride: rows)
        withUnsafePointer(to: activations) { activations in
          let function = isNF4 ? functions.nf4_integer_product! : functions.int8_integer_product!
          function(
            matrix, activations, rows, y, ldy, groups.lowerBound, groups.upperBound, fetches.baseAddress, fetches.count)
        }
      }
    }
  }
}
