/// A tokenizer's tokens as trees of their bytes.
public struct TokenVocabulary: Sendable {
  /// How many token ids there are.
  public let count: Int
  /// The ids that end a text.
  public let endTokens: [Int]
  /// The bytes of each token; empty for tokens that are no text.
  let tokens: [[UInt8]]
  /// The tokens of 1 to `longestPlain` plain characters, without those in `letters`. Most tokens are such.
  let plain: TokenTree
  /// The tokens of 1 to `longestPlain` ASCII letters.
  let letters: TokenTree
  /// For each number of characters from 0 to `longestPlain`, the mask of the plain tokens of at most as many.
  let plainMasks: [[UInt32]]
  /// The same for the tokens of letters.
  let letterMasks: [[UInt32]]
  /// All other tokens.
  let others: TokenTree

  /// The largest number of characters of a token in `plain` or `letters`.
  static let longestPlain = 16

  /// - Parameters:
  ///   - tokens: the bytes of each token id; nil or empty for tokens that are never part of a text, such as special tokens
  ///   - endTokens: the ids that end a text
  public init(tokens: [[UInt8]?], endTokens: [Int]) {
    count = tokens.count
    self.endTokens = endTokens.filter(tokens.indices.contains)
    var bytes = tokens.map { $0 ?? [] }
    for token in self.endTokens { bytes[token] = [] }
    self.tokens = bytes
    var plain: [Int32] = []
    var others: [Int32] = []
    let words = (count + 31) / 32
    var letters: [Int32] = []
    var masks = [[UInt32]](repeating: [UInt32](repeating: 0, count: words), count: Self.longestPlain + 1)
    var letterMasks = masks
    for token in TokenVocabulary.sorted(bytes) {
      guard let length = PlainText.length(bytes[Int(token)]), length <= Self.longestPlain else {
        others.append(token)
        continue
      }
      masks[length][Int(token) >> 5] |= 1 << UInt32(token & 31)
      if PlainText.isLetters(bytes[Int(token)]) {
        letters.append(token)
        letterMasks[length][Int(token) >> 5] |= 1 << UInt32(token & 31)
      } else {
        plain.append(token)
      }
    }
    for length in 1...Self.longestPlain {
      for word in 0..<words {
        masks[length][word] |= masks[length - 1][word]
        letterMasks[length][word] |= letterMasks[length - 1][word]
      }
    }
    self.plain = TokenTree(plain, bytes: bytes)
    self.others = TokenTree(others, bytes: bytes)
    self.letters = TokenTree(letters, bytes: bytes)
    plainMasks = masks
    self.letterMasks = letterMasks
  }

  /// How many words of 32 bits a mask has.
  public var maskWords: Int { (count + 31) / 32 }

  /// The tokens that have bytes, in the order of their bytes.
  private static func sorted(_ bytes: [[UInt8]]) -> [Int32] {
    /// The first eight bytes decide most comparisons.
    let keyed = bytes.indices.filter { !bytes[$0].isEmpty }.map { token in
      var key: UInt64 = 0
      for offset in 0..<8 { key = key << 8 | (offset < bytes[token].count ? UInt64(bytes[token][offset]) : 0) }
      return (key: key, token: Int32(token))
    }
    return keyed.sorted { first, second in
      if first.key != second.key { return first.key < second.key }
      let (left, right) = (bytes[Int(first.token)], bytes[Int(second.token)])
      if left == right { return first.token < second.token }
      return left.lexicographicallyPrecedes(right)
    }.map(\.token)
  }
}
