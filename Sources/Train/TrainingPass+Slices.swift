/// A slice of training work: about a millisecond on the machines that the constants below were measured on, whatever
/// the base's size and the rows' lengths.
typealias Slice = () -> Void

/// How a pass is cut. No cut changes a bit of what is computed.
extension TrainingPass {
  /// Multiplications and additions in a slice.
  static let sliceOperations = 160_000_000
  /// Most tokens that a product with the base's weights takes at a time.
  private static let stretchTokens = 256

  /// What the work on a value takes, in the products' operations.
  enum Cost {
    /// Loading, a few operations, storing.
    static let simple = 32
    /// An exponential.
    static let exponential = 96
    /// A logit: its share of the softmax, and finding the largest.
    static let logit = 192
  }

  /// The slab's tokens in even stretches.
  var stretches: [Range<Int>] { Self.even(tokens, most: Self.stretchTokens) }

  /// Slices of work on tokens that is about so much for each.
  func byRows(_ operations: Int, _ body: @escaping (Range<Int>) -> Void) -> [Slice] {
    Self.even(tokens, most: Self.sliceOperations / max(operations, 1)).map { rows in { body(rows) } }
  }

  /// 0 ..< count in even ranges of at most so many.
  static func even(_ count: Int, most: Int) -> [Range<Int>] {
    let pieces = (count + max(most, 1) - 1) / max(most, 1)
    return (0..<pieces).map { count * $0 / pieces..<count * ($0 + 1) / pieces }
  }
}
