/// What a layer's attention computes beside the products of queries, keys and values.
public struct AttentionRule: Sendable, Equatable {
  /// The factor on scores.
  public var scale: Float
  /// Scores s become cap · tanh(s / cap); `nil` leaves them as they are.
  public var softCap: Float?
  /// How many positions, its own included, a position sees; `nil` for all earlier ones.
  public var window: Int?
  /// The elements of a head that are rotated, from the first on; even.
  public var rotarySize: Int

  /// - Parameters: as the properties
  public init(scale: Float, softCap: Float? = nil, window: Int? = nil, rotarySize: Int) {
    self.scale = scale
    self.softCap = softCap
    self.window = window
    self.rotarySize = rotarySize
  }

  /// The plain rule for a head size: scores are divided by its square root, and all elements are rotated.
  public init(headSize: Int) { self.init(scale: 1 / Float(headSize).squareRoot(), rotarySize: headSize) }

  /// The first position that a position sees.
  func firstVisible(from position: Int) -> Int { window.map { max(position - $0 + 1, 0) } ?? 0 }
}
