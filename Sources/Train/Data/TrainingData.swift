public import Formats
import Model

/// One sequence of tokens, and the labels to be learnt.
public struct TrainingRow: Sendable, Equatable {
  /// A label that carries no loss.
  public static let ignored: Int32 = -100

  /// Token ids, below the size of the vocabulary.
  public var tokens: [Int32]
  /// One label for each token, [tokens.count]: `labels[i]` is to be predicted from the tokens before i.
  public var labels: [Int32]

  /// - Parameter labels: one for each token
  public init(tokens: [Int32], labels: [Int32]) {
    self.tokens = tokens
    self.labels = labels
  }

  /// Tokens that carry loss; the first never does.
  public var lossCount: Int { labels.dropFirst().count { $0 != Self.ignored } }

  /// The tokens as runs that are learnt or not, in order.
  public var runs: [(tokens: [Int32], isLearnt: Bool)] {
    var runs: [(tokens: [Int32], isLearnt: Bool)] = []
    for (index, token) in tokens.enumerated() {
      // The first token is not predicted, since no token comes before it.
      let isLearnt = index > 0 && labels[index] != Self.ignored
      if runs.last?.isLearnt == isLearnt {
        runs[runs.count - 1].tokens.append(token)
      } else {
        runs.append(([token], isLearnt))
      }
    }
    return runs
  }

  /// The row's first `length` tokens. A row that is short enough is returned as it is, without a copy.
  fileprivate func cut(to length: Int) -> TrainingRow {
    if tokens.count <= length { return self }
    return TrainingRow(tokens: Array(tokens.prefix(length)), labels: Array(labels.prefix(length)))
  }

  func check(vocabulary: Int) -> String? {
    guard tokens.count == labels.count else { return "\(tokens.count) tokens but \(labels.count) labels" }
    for token in tokens where token < 0 || Int(token) >= vocabulary { return "token \(token) is not in the vocabulary" }
    for label in labels where label != Self.ignored && (label < 0 || Int(label) >= vocabulary) {
      return "label \(label) is not in the vocabulary"
    }
    return nil
  }
}

/// One line of training data.
public enum TrainingExample: Sendable, Equatable {
  /// One text or chat.
  case row(TrainingRow)
  /// Two answers to one prompt, whose tokens carry the loss.
  case pair(chosen: TrainingRow, rejected: TrainingRow)

  /// The example's row, or the two rows of a pair.
  public var rows: [TrainingRow] {
    switch self {
    case .row(let row): [row]
    case .pair(let chosen, let rejected): [chosen, rejected]
    }
  }

  /// The bytes that the example takes: token ids and labels, and the overhead of each array.
  var bytes: Int {
    rows.reduce(MemoryLayout<TrainingExample>.stride) { $0 + 2 * (4 * $1.tokens.count + Self.arrayOverhead) }
  }

  private static let arrayOverhead = 48
}

/// A source of rows, such as the lines of a file.
public protocol RowSource {
  /// All examples in order.
  /// - Throws: an error that names the line that is wrong
  func examples() throws -> [TrainingExample]
}

/// The examples of a run: cut to the maximum length, without those that carry no loss, and split into training and
/// validation.
public struct TrainingData: Sendable {
  /// Examples that steps take.
  public let training: [TrainingExample]
  /// Examples that are held out.
  public let validation: [TrainingExample]
  /// Rows that were cut to the length limit.
  public let cutCount: Int
  /// Rows left out because nothing of them carries loss.
  public let lossless: Int
  /// The formats of other programs that rows were converted from.
  public let mappings: [RowMapping]
  /// Tokens of the longest row.
  let longestRow: Int
  /// Tokens of the longest example; a pair's two rows count together.
  public let longestExample: Int
  /// Tokens that carry loss, of each training example.
  let lossCounts: [Int32]
  /// The sum of `lossCounts`.
  let lossTotal: Int
  /// The bytes of all examples.
  let bytes: Int

  /// - Parameters:
  ///   - validation: `nil` holds out `validation_split` of the examples, drawn by the seed
  ///   - mappings: the formats that the examples were converted from
  /// - Throws: `ModelError` naming the example whose tokens are wrong, or if nothing is left
  public init(
    _ examples: [TrainingExample], validation: [TrainingExample]? = nil, mappings: Set<RowMapping> = [],
    hyperparameters: Hyperparameters, model: ModelConfig
  ) throws {
    let limit = hyperparameters.sequenceLength(model)
    var (cut, lossless) = (0, 0)
    func prepare(_ examples: [TrainingExample], _ what: String) throws -> [TrainingExample] {
      var kept: [TrainingExample] = []
      for (index, example) in examples.enumerated() {
        for row in example.rows {
          if let problem = row.check(vocabulary: model.vocabularySize) {
            throw ModelError(what, "example \(index + 1)", reason: problem)
          }
          if row.tokens.count > limit { cut += 1 }
        }
        switch (example, hyperparameters.method) {
        case (.row(let row), .supervised):
          let row = row.cut(to: limit)
          if row.lossCount == 0 { lossless += 1 } else { kept.append(.row(row)) }
        case (.pair(let chosen, let rejected), .dpo):
          let (chosen, rejected) = (chosen.cut(to: limit), rejected.cut(to: limit))
          if chosen.lossCount == 0 || rejected.lossCount == 0 {
            lossless += 1
          } else {
            kept.append(.pair(chosen: chosen, rejected: rejected))
          }
        case (.row, .dpo): throw ModelError(what, "example \(index + 1)", reason: "is no pair, which dpo needs")
        case (.pair, .supervised):
          throw ModelError(what, "example \(index + 1)", reason: "is a pair, which only dpo can use")
        }
      }
      return kept
    }
    var training = try prepare(examples, "training data")
    var heldOut: [TrainingExample] = []
    if let validation {
      heldOut = try prepare(validation, "validation data")
    } else if hyperparameters.validationSplit > 0, training.count > 1 {
      let wanted = Int((Double(training.count) * hyperparameters.validationSplit).rounded(.up))
      let count = min(max(wanted, 1), training.count - 1)
      let order = EpochOrder.permutation(count: training.count, seed: hyperparameters.seed, stream: .split)
      let chosen = Set(order.prefix(count))
      heldOut = training.indices.filter(chosen.contains).map { training[$0] }
      training = training.indices.filter { !chosen.contains($0) }.map { training[$0] }
    }
    guard !training.isEmpty else {
      throw ModelError("training data", reason: "no example carries loss within \(limit) tokens")
    }
    self.training = training
    self.validation = heldOut
    self.mappings = RowMapping.allCases.filter(mappings.contains)
    cutCount = cut
    self.lossless = lossless
    lossCounts = training.map { example in Int32(example.rows.reduce(0) { $0 + $1.lossCount }) }
    lossTotal = lossCounts.reduce(0) { $0 + Int($1) }
    let all = [training, heldOut].joined()
    longestRow = all.reduce(0) { longest, example in example.rows.reduce(longest) { max($0, $1.tokens.count) } }
    longestExample = all.reduce(0) { max($0, $1.rows.reduce(0) { $0 + $1.tokens.count }) }
    bytes = all.reduce(training.count * 4) { $0 + $1.bytes }
  }

  /// A hash that identifies the data when a run is resumed: FNV-1a over tokens and labels.
  var digest: UInt64 {
    var hash: UInt64 = 0xCBF2_9CE4_8422_2325
    func mix(_ value: Int) { hash = (hash ^ UInt64(bitPattern: Int64(value))) &* 0x100_0000_01B3 }
    for examples in [training, validation] {
      mix(examples.count)
      for row in examples.flatMap(\.rows) {
        mix(row.tokens.count)
        for token in row.tokens { mix(Int(token)) }
        for label in row.labels { mix(Int(label)) }
      }
    }
    return hash
  }
}
