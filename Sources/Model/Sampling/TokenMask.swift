/// Which tokens may be drawn, one bit for each id.
public struct TokenMask: Sendable {
  /// Bit id % 32 of word id / 32 belongs to a token. Bits beyond the vocabulary are ignored.
  public var words: [UInt32]

  /// A mask that allows no token.
  /// - Parameter count: tokens of the vocabulary
  public init(count: Int) { words = [UInt32](repeating: 0, count: (count + 31) / 32) }

  /// Whether a token may be drawn.
  public func contains(_ token: Int32) -> Bool {
    let index = Int(token) >> 5
    return words.indices.contains(index) && words[index] >> UInt32(token & 31) & 1 == 1
  }

  /// Allows a token.
  public mutating func insert(_ token: Int32) { words[Int(token) >> 5] |= 1 << UInt32(token & 31) }

  /// Allows a token no longer.
  public mutating func remove(_ token: Int32) { words[Int(token) >> 5] &= ~(1 << UInt32(token & 31)) }

  /// Whether no token may be drawn.
  public var isEmpty: Bool { words.allSatisfy { $0 == 0 } }

  /// Makes the logits of all other tokens -∞.
  /// - Parameter count: logits
  func apply(to logits: UnsafeMutablePointer<Float>, count: Int) {
    for (index, word) in words.enumerated() where word != .max {
      let first = index * 32
      guard first < count else { return }
      for bit in 0..<min(32, count - first) where word >> UInt32(bit) & 1 == 0 { logits[first + bit] = -.infinity }
    }
    // A model may have more rows than its tokenizer has tokens.
    for token in min(words.count * 32, count)..<count { logits[token] = -.infinity }
  }
}
