import Kernels
import Model

/// How a pass is divided into slices. A slice takes about a millisecond on the machines that the constants below were
/// measured on, whatever the base's size and the rows' lengths. The division changes no bit of the results.
extension TrainingPass {
  /// Multiplications and additions in a slice.
  static let turnOperations = 160_000_000
  /// Maximum tokens of one product with the base's weights.
  static let productTokens = 256

  /// What an elementwise operation on one value costs, compared with one operation of a product.
  enum Cost {
    /// Loading, a few operations, storing.
    static let simple = 32
    /// An exponential.
    static let exponential = 96
    /// A logit: its part of the softmax and of the search for the largest.
    static let logit = 192
  }

  /// The microbatch's tokens in ranges of almost equal length, one for each product.
  var productRanges: [Range<Int>] { Self.even(tokens, maximum: Self.productTokens) }

  /// Calls `body` with all tokens in ranges of almost equal length, one slice for each.
  /// - Parameter operations: about how many operations `body` takes for a token
  func byRows(_ operations: Int, _ body: (Range<Int>) -> Void) throws(TrainingInterruption) {
    for rows in Self.even(tokens, maximum: Self.turnOperations / max(operations, 1)) {
      try slices.slice { body(rows) }
    }
  }

  /// The same for sums over tokens, which are divided only where a group of tokens begins. A group is 32 tokens of one
  /// row of data, counted from its start, or the fewer at its end. So the groups do not depend on what a row is packed
  /// with.
  /// - Parameter body: gets the tokens and where groups begin among them, the last number being their count
  func byGroups(
    _ operations: Int, _ body: (_ tokens: Range<Int>, _ groups: [Int]) -> Void
  ) throws(TrainingInterruption) {
    let starts = microbatch.rows.flatMap { Array(stride(from: $0.lowerBound, to: $0.upperBound, by: 32)) } + [tokens]
    var begin = 0
    for range in Self.even(tokens, maximum: Self.turnOperations / max(operations, 1)) {
      let end = starts[begin...].firstIndex { $0 >= range.upperBound } ?? starts.count - 1
      guard end > begin else { continue }
      let first = starts[begin]
      try slices.slice { body(first..<starts[end], starts[begin...end].map { $0 - first }) }
      begin = end
    }
  }

  /// Divides 0 ..< count into ranges of almost equal length, at most `maximum`.
  static func even(_ count: Int, maximum: Int) -> [Range<Int>] {
    let ranges = (count + max(maximum, 1) - 1) / max(maximum, 1)
    return (0..<ranges).map { count * $0 / ranges..<count * ($0 + 1) / ranges }
  }
}
