/// The tokens that cannot be drawn: those that would end the answer too early, and those that would complete a bad word.
struct ExcludedTokens: Sendable {
  private let minimumTokens: Int
  private let endTokens: [Int32]
  private let badWords: [[Int32]]
  /// Tokens of the answer that may be the beginning of a bad word.
  private let longestBeginning: Int
  /// The last `longestBeginning` tokens of the answer.
  private var last: [Int32] = []

  init(_ parameters: SamplingParameters) {
    minimumTokens = parameters.minimumTokens
    endTokens = parameters.minimumTokens > 0 ? parameters.endTokens.sorted() : []
    badWords = parameters.badWords
    longestBeginning = (badWords.map(\.count).max() ?? 1) - 1
  }

  /// Records a token of the answer.
  mutating func accept(_ token: Int32) {
    guard longestBeginning > 0 else { return }
    if last.count == longestBeginning { last.removeFirst() }
    last.append(token)
  }

  /// The tokens that cannot be drawn now.
  /// - Parameter index: of the token to be drawn among those of the answer, from 0
  func tokens(at index: Int) -> [Int32] {
    guard !badWords.isEmpty || index < minimumTokens else { return [] }
    var tokens = index < minimumTokens ? endTokens : []
    for word in badWords {
      guard let final = word.last, last.suffix(word.count - 1).elementsEqual(word.dropLast()) else { continue }
      tokens.append(final)
    }
    return tokens
  }
}
