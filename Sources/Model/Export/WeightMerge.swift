import Formats
import Foundation
import Kernels

/// Adds an adapter's updates to weights: W + scale · BA, and with DoRA each row of it scaled to its magnitude, as PEFT's
/// `merge_and_unload` does. Sums are f32; a value is rounded once, when it is written.
struct WeightMerge {
  private let reader: PEFTReader
  private let config: ModelConfig
  private let pool: ThreadPool
  /// By the weight's name, "model.layers.0.self_attn.q_proj.weight".
  private let targets: [String: TargetedProjection]

  /// Values of a weight that are in memory at a time.
  private static let stripCount = 4 << 20
  /// Columns whose sums are in the cache.
  private static let columnBlock = 1024

  /// - Throws: `ModelError` naming the part of the adapter that is wrong or does not fit the base
  init(adapter: URL, config: ModelConfig, pool: ThreadPool) throws {
    let reader = try AdapterExport.reader(adapter, config: config)
    self.reader = reader
    self.config = config
    self.pool = pool
    targets = Dictionary(
      reader.projections.map { ($0.projection.fullName(layer: $0.layer) + ".weight", $0) },
      uniquingKeysWith: { first, _ in first })
  }

  /// What the adapter's configuration says of its base.
  var baseModel: String? { reader.peft.baseModel }

  /// Whether the adapter changes a weight.
  func changes(_ name: String) -> Bool { targets[name] != nil }

  /// Reads a weight, adds the adapter's update if it has one, and gives the result to `write`, whole rows at a time in the
  /// order of the file.
  /// - Parameters:
  ///   - name: Hugging Face's
  ///   - shape: [rows, columns], or [n] for a vector, which is one row
  ///   - place: the row of the file that holds a row of the projection
  ///   - read: reads rows of the file
  /// - Throws: `ModelError` naming a tensor of the adapter, or the weight if a merged value is not finite
  func copy(
    _ name: String, shape: [Int], place: (Int) -> Int = { $0 },
    read: (Range<Int>, UnsafeMutableBufferPointer<Float>) throws -> Void,
    write: (UnsafeBufferPointer<Float>) throws -> Void
  ) throws {
    let columns = shape.last ?? 1
    let rows = shape.count < 2 ? 1 : shape.dropLast().reduce(1, *)
    let update = try targets[name].map { try Update(reader.update($0), place: place) }
    let strip = max(1, Self.stripCount / max(columns, 1))
    var values = [Float](repeating: 0, count: min(strip, rows) * columns)
    for first in stride(from: 0, to: rows, by: strip) {
      let count = min(strip, rows - first)
      try values.withUnsafeMutableBufferPointer { values in
        let part = UnsafeMutableBufferPointer(rebasing: values[..<(count * columns)])
        try read(first..<first + count, part)
        if let update {
          add(update, to: part, firstRow: first, columns: columns)
          guard part.allSatisfy(\.isFinite) else {
            throw ModelError(name, reason: "has values that are not finite, once the adapter is merged into it")
          }
        }
        try write(UnsafeBufferPointer(part))
      }
    }
  }

  /// An update in the order of the file's rows.
  private struct Update {
    let rank: Int
    let scale: Float
    let a: [Float]
    let b: [Float]
    let magnitude: [Float]?

    init(_ update: PEFTAdapter.Update, place: (Int) -> Int) {
      (rank, scale, a) = (update.rank, update.scale, update.a)
      var (b, magnitude) = (update.b, update.magnitude)
      for row in 0..<update.b.count / update.rank where place(row) != row {
        for index in 0..<update.rank { b[place(row) * update.rank + index] = update.b[row * update.rank + index] }
        if let own = update.magnitude { magnitude?[place(row)] = own[row] }
      }
      self.b = b
      self.magnitude = magnitude
    }
  }

  private func add(_ update: Update, to values: UnsafeMutableBufferPointer<Float>, firstRow: Int, columns: Int) {
    guard let start = values.baseAddress else { return }
    let rows = values.count / columns
    update.a.withUnsafeBufferPointer { buffer in
      guard let first = buffer.baseAddress else { return }
      // The threads read A, and each writes rows of its own.
      nonisolated(unsafe) let (a, start) = (first, start)
      pool.run(parts: rows) { index in
        let row = firstRow + index
        Self.add(update, row: row, a: a, to: start + index * columns, columns: columns)
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
