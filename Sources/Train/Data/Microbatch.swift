import Kernels

/// Rows that go through the model together: side by side without padding. Each row attends to itself alone, and its
/// positions begin at 0.
struct Microbatch {
  private(set) var tokens: [Int32] = []
  /// [tokens], from 0 in each row.
  private(set) var positions: [Int32] = []
  /// The range of each row among the tokens.
  private(set) var rows: [Range<Int>] = []
  /// Each row's number within its optimiser step. Its dropout is drawn by this number, so packing does not change it.
  private(set) var ordinals: [Int] = []
  /// The example of each row: an index of `TrainingData`.
  private(set) var examples: [Int] = []
  /// Tokens whose final hidden state predicts a label, ascending.
  private(set) var predictors: [Int] = []
  /// The labels, one to a predictor.
  private(set) var targets: [Int32] = []
  /// The row of each predictor, as an index into `rows`.
  private(set) var owners: [Int] = []

  private mutating func append(_ row: TrainingRow, ordinal: Int, example: Int) {
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
    examples.append(example)
  }

  /// Packs the next examples, in order, as long as they fit into the limits, but at least one. An example is never
  /// divided: the two rows of a pair stay together.
  /// - Parameters:
  ///   - next: the number of the first example; afterwards the number of the next microbatch's first
  ///   - count: the number of examples; more than `next`
  ///   - example: the example of a number
  ///   - example: looks an example up by its number
  static func pack(
    _ next: inout Int, of count: Int, limits: MicrobatchLimits, _ example: (Int) -> (index: Int, value: TrainingExample)
  ) -> Microbatch {
    var microbatch = Microbatch()
    let first = next
    while next < count, next - first < limits.examples {
      let (index, value) = example(next)
      let rows = value.rows
      let length = rows.reduce(0) { $0 + $1.tokens.count }
      if next > first, microbatch.tokens.count + length > limits.tokens { break }
      for (i, row) in rows.enumerated() { microbatch.append(row, ordinal: 2 * next + i, example: index) }
      next += 1
    }
    return microbatch
  }

  /// The key of the random numbers for each token; all tokens of a row have the same.
  /// - Parameter key: makes a row's key from its ordinal
  func keys(_ key: (Int) -> CounterKey) -> [CounterKey] {
    var keys: [CounterKey] = []
    keys.reserveCapacity(tokens.count)
    for (row, ordinal) in zip(rows, ordinals) { keys += repeatElement(key(ordinal), count: row.count) }
    return keys
  }
}

/// The limits of a microbatch's size.
struct MicrobatchLimits: Equatable {
  /// Maximum tokens; a longer example is a microbatch of its own.
  let tokens: Int
  /// Maximum examples.
  let examples: Int

  /// The maximum tokens of a microbatch of several rows, enough for the products to be efficient.
  private static let packedTokens = 256

  /// - Parameter longestExample: tokens of the data's longest example
  init(_ hyperparameters: Hyperparameters, longestExample: Int) {
    tokens = hyperparameters.packing ? max(longestExample, Self.packedTokens) : longestExample
    examples = hyperparameters.packing ? EpochOrder.chunkSize : 1
  }

  init(tokens: Int, examples: Int) {
    self.tokens = tokens
    self.examples = examples
  }
}

/// The microbatches of a range of examples. Each is packed only when it is needed, so neither the memory nor the work
/// of a slice grows with the number of examples.
struct Microbatches {
  private enum Source {
    /// Examples for a training step, as positions counted from the beginning of training.
    case training(Range<Int>, EpochOrder)
    case validation
  }

  private let source: Source
  private let data: TrainingData
  private let limits: MicrobatchLimits
  /// The number of the next microbatch's first example.
  private var next = 0

  /// - Parameter positions: examples of one optimiser step, counted since the beginning of training
  init(training positions: Range<Int>, order: EpochOrder, data: TrainingData, limits: MicrobatchLimits) {
    source = .training(positions, order)
    self.data = data
    self.limits = limits
  }

  /// All validation examples.
  init(validationOf data: TrainingData, limits: MicrobatchLimits) {
    source = .validation
    self.data = data
    self.limits = limits
  }

  /// The next microbatch; `nil` after the last.
  mutating func next(_ slices: any TrainingSlices) throws(TrainingInterruption) -> Microbatch? {
    var microbatch = Microbatch()
    switch source {
    case .training(let positions, let order):
      guard next < positions.count else { return nil }
      let first = positions.lowerBound + next
      try order.prepare(first..<min(first + limits.examples, positions.upperBound), slices)
      try slices.slice {
        microbatch = Microbatch.pack(&next, of: positions.count, limits: limits) { number in
          let index = order.example(at: positions.lowerBound + number)
          return (index, data.training[index])
        }
      }
    case .validation:
      guard next < data.validation.count else { return nil }
      try slices.slice {
        microbatch = Microbatch.pack(&next, of: data.validation.count, limits: limits) { number in
          (data.training.count + number, data.validation[number])
        }
      }
    }
    return microbatch
  }
}
