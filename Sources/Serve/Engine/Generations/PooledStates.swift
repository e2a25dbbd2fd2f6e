/// The sums of a sequence's hidden states, position by position.
///
/// The positions are added in their order and in double precision, so the sums do not depend on how the prompt was cut
/// into chunks.
struct PooledStates {
  /// Positions that were added.
  private(set) var count = 0
  private var sums: [Double] = []

  /// Adds the states of the next positions.
  /// - Parameters:
  ///   - states: [positions][size]
  ///   - size: the model's hidden size
  mutating func add(_ states: UnsafeBufferPointer<Float>, size: Int) {
    if sums.isEmpty { sums = [Double](repeating: 0, count: size) }
    for first in stride(from: 0, to: states.count, by: size) {
      for i in 0..<size { sums[i] += Double(states[first + i]) }
      count += 1
    }
  }

  /// The mean, scaled to the Euclidean length 1.
  var mean: [Float] { Self.normalized(sums) }

  /// A vector scaled to the Euclidean length 1. One without a length stays as it is.
  static func normalized(_ values: [Double]) -> [Float] {
    let length = values.reduce(0) { $0 + $1 * $1 }.squareRoot()
    return values.map { Float(length > 0 ? $0 / length : $0) }
  }
}
