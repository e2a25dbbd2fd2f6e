import CKernels

/// The quantisation of rows for a product, in parts that threads share.
///
/// Parts write to different memory. The caller keeps all memory alive.
struct RowQuantization {
  /// Columns that share a scale; `nil` if the product reads the rows as they are, in f32.
  let block: Int?
  let quantized: QuantizedRows
  private let x: UnsafePointer<Float>
  private let rows: Int
  private let columns: Int
  private let functions: graft_forward_kernels

  private static let rowsPerPart = 4

  /// - Parameters:
  ///   - w: the matrix that the rows will be multiplied with
  ///   - x: [rows][columns]
  ///   - quantized: memory for the rows
  init(_ compute: Compute, for w: Matrix, _ x: UnsafePointer<Float>, rows: Int, into quantized: QuantizedRows) {
    block =
      switch (w.storage, compute.mode) {
      case (.dense, _), (.nf4, .f32): nil
      case (.nf4(let block), _), (.int8(let block), _): block
      }
    self.x = x
    self.rows = rows
    self.quantized = quantized
    (columns, functions) = (w.columns, compute.kernels.forward)
  }

  /// How many parts there are; 0 if the product reads the rows as they are.
  var parts: Int { block == nil ? 0 : (rows + Self.rowsPerPart - 1) / Self.rowsPerPart }

  /// Quantises one part of the rows.
  func quantize(part: Int) {
    guard let block else { return }
    for row in part * Self.rowsPerPart..<min((part + 1) * Self.rowsPerPart, rows) {
      functions.quantize(
        x + row * columns, columns, block, rows, quantized.values.pointer + row * block, quantized.scale.pointer + row)
    }
  }
}
