import Kernels

/// Rows that go through the model together: side by side without padding, each attending to itself alone, with
/// positions from zero.
struct Slab {
  /// A row's place in its optimiser step, by which its dropout is drawn: the same however rows are packed.
  typealias Ordinal = Int

  private(set) var tokens: [Int32] = []
  /// [tokens], from 0 in each row.
  private(set) var positions: [Int32] = []
  private(set) var rows: [Range<Int>] = []
  private(set) var ordinals: [Ordinal] = []
  /// Tokens whose final hidden state predicts a label, ascending.
  private(set) var predictors: [Int] = []
  /// The labels, one to a predictor.
  private(set) var targets: [Int32] = []
  /// The row of each predictor, as an index into `rows`.
  private(set) var owners: [Int] = []

  mutating func append(_ row: TrainingRow, ordinal: Ordinal) {
    let first = tokens.count
    for (i, label) in row.labels.enumerated() where i > 0 && label != TrainingRow.ignored {
      predictors.append(first + i - 1)
      targets.append(label)
      owners.append(rows.count)
    }
    tokens += row.tokens
    positions += (0..<Int32(row.tokens.count))
    rows.append(first..<tokens.count)
    ordinals.append(ordinal)
  }

  /// Packs the examples that come next, in their order: never more than `limit` tokens or `rowLimit` examples
  /// together, but always one. An example (a pair's two rows) stays whole.
  /// - Parameters:
  ///   - next: the ordinal of the first example; that of the next slab's first afterwards
  ///   - count: how many ordinals there are, at least `next + 1`
  ///   - example: looks an ordinal's example up
  static func pack(
    _ next: inout Int, of count: Int, limit: Int, rowLimit: Int, _ example: (Int) -> TrainingExample
  ) -> Slab {
    var slab = Slab()
    let first = next
    while next < count, next - first < rowLimit {
      let rows = example(next).rows
      let length = rows.reduce(0) { $0 + $1.tokens.count }
      if next > first, slab.tokens.count + length > limit { break }
      for (i, row) in rows.enumerated() { slab.append(row, ordinal: 2 * next + i) }
      next += 1
    }
    return slab
  }

  /// The key of each token's row.
  func keys(_ key: (Ordinal) -> CounterKey) -> [CounterKey] {
    var keys: [CounterKey] = []
    keys.reserveCapacity(tokens.count)
    for (row, ordinal) in zip(rows, ordinals) { keys += repeatElement(key(ordinal), count: row.count) }
    return keys
  }
}
