/// A view of row-major f32 values: a pointer and the distance between rows.
///
/// The owner of the memory decides which thread writes where, and keeps the memory alive while a view is in use.
public struct Rows {
  /// The first value of the first row.
  public let pointer: UnsafeMutablePointer<Float>
  /// Floats from the start of one row to the start of the next.
  public let stride: Int

  /// - Parameters:
  ///   - pointer: the first value of the first row
  ///   - stride: floats from the start of one row to the start of the next
  public init(_ pointer: UnsafeMutablePointer<Float>, stride: Int) {
    self.pointer = pointer
    self.stride = stride
  }

  /// The view of the same values that begins `row` rows down and `column` columns to the right.
  public func from(row: Int = 0, column: Int = 0) -> Rows { Rows(pointer + row * stride + column, stride: stride) }
}
