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

  /// Packs examples in their order, never more than `limit` tokens or `rowLimit` examples together; an example (a
  /// pair's two rows) stays whole.
  static func pack(
    _ examples: [(example: TrainingExample, ordinal: Int)], limit: Int, rowLimit: Int
  ) -> [Slab] {
    var slabs: [Slab] = []
    var current = Slab()
    var count = 0
    for (example, ordinal) in examples {
      let length = example.rows.reduce(0) { $0 + $1.tokens.count }
      if count > 0, current.tokens.count + length > limit || count >= rowLimit {
        slabs.append(current)
        (current, count) = (Slab(), 0)
      }
      for (i, row) in example.rows.enumerated() { current.append(row, ordinal: 2 * ordinal + i) }
      count += 1
    }
    if count > 0 { slabs.append(current) }
    return slabs
  }

  /// The key of each token's row.
  func keys(_ key: (Ordinal) -> CounterKey) -> [CounterKey] {
    var keys: [CounterKey] = []
    keys.reserveCapacity(tokens.count)
    for (row, ordinal) in zip(rows, ordinals) { keys += repeatElement(key(ordinal), count: row.count) }
    return keys
  }
}
