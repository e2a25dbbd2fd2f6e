import Formats
import Foundation
import Kernels

/// What an adapter does to one tensor of the base, in the order of the file's rows: other rows, then LoRA's update with DoRA's
/// magnitudes or IA3's factors, as PEFT's `merge_and_unload` has it. Sums are f32.
struct WeightChange {
  /// LoRA's factors, with DoRA's magnitudes.
  struct Update {
    let rank: Int
    let scale: Float
    /// [rank, columns]
    let a: [Float]
    /// [rows, rank]
    let b: [Float]
    /// [rows]; `nil` without DoRA.
    let magnitude: [Float]?
  }

  /// Rows of a tensor of the adapter that take the place of the base's, by these.
  var rows: (tensor: String, rows: [Int: Int])?
  var update: Update?
  /// [rows]
  var rowFactors: [Float]?
  /// [columns]
  var columnFactors: [Float]?
  /// Of a vector: values in the place of the base's.
  var replacement: [Float]?
  /// Of a vector.
  var summand: [Float]?

  /// Columns whose sums are in the cache.
  private static let columnBlock = 1024

  /// - Parameters:
  ///   - values: whole rows of the tensor, changed
  ///   - firstRow: of them
  /// - Throws: `ModelError` naming a tensor of the adapter that cannot be read
  func apply(
    to values: UnsafeMutableBufferPointer<Float>, firstRow: Int, columns: Int, weights: PEFTWeights, pool: ThreadPool
  ) throws {
    guard let start = values.baseAddress else { return }
    let count = values.count / columns
    if let (tensor, rows) = rows {
      var row = [Float](repeating: 0, count: columns)
      for index in 0..<count {
        guard let source = rows[firstRow + index] else { continue }
        try weights.readRow(tensor, source, into: &row)
        (start + index * columns).update(from: row, count: columns)
      }
    }
    if let replacement { start.update(from: replacement, count: values.count) }
    if let update { Self.add(update, to: start, rows: firstRow..<firstRow + count, columns: columns, pool) }
    for index in 0..<count where rowFactors != nil || columnFactors != nil {
      let row = start + index * columns
      let factor = rowFactors?[firstRow + index] ?? 1
      for column in 0..<columns { row[column] *= factor * (columnFactors?[column] ?? 1) }
    }
    if let summand { for index in values.indices { values[index] += summand[index] } }
  }

  private static func add(
    _ update: Update, to start: UnsafeMutablePointer<Float>, rows: Range<Int>, columns: Int, _ pool: ThreadPool
  ) {
    update.a.withUnsafeBufferPointer { buffer in
      guard let first = buffer.baseAddress else { return }
      // The threads read A, and each writes rows of its own.
      nonisolated(unsafe) let (a, start) = (first, start)
      pool.run(parts: rows.count) { index in
        add(update, row: rows.lowerBound + index, a: a, to: start + index * columns, columns: columns)
      }
    }
  }

  private static func add(
    _ update: Update, row: Int, a: UnsafePointer<Float>, to weight: UnsafeMutablePointer<Float>, columns: Int
  ) {
    withUnsafeTemporaryAllocation(of: Float.self, capacity: columnBlock) { sums in
      guard let sum = sums.baseAddress else { return }
      for first in stride(from: 0, to: columns, by: columnBlock) {
        let count = min(columnBlock, columns - first)
        sum.initialize(repeating: 0, count: count)
        for k in 0..<update.rank {
          let factor = update.b[row * update.rank + k]
          let values = a + k * columns + first
          for column in 0..<count { sum[column] += factor * values[column] }
        }
        for column in 0..<count { weight[first + column] += update.scale * sum[column] }
      }
    }
    guard let magnitude = update.magnitude else { return }
    var squares = 0.0
    for column in 0..<columns { squares += Double(weight[column]) * Double(weight[column]) }
    let factor = magnitude[row] / Float(squares.squareRoot())
    for column in 0..<columns { weight[column] *= factor }
  }
}
