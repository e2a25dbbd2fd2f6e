/// Finds earlier occurrences of the last tokens of a text, so that what followed them can be proposed as what comes next
/// (prompt lookup decoding: Saxena, 2023, https://github.com/apoorvumang/prompt-lookup-decoding).
///
/// The index is that of LZ77 compressors: a table of the latest occurrence of each three tokens, and for each position
/// a link to the occurrence before. It has at most about 40 bytes for each token.
struct PromptLookup {
  /// An earlier occurrence of the last tokens.
  struct Match: Equatable {
    /// The index of the token after the occurrence.
    var next: Int
    /// How many tokens are equal, at most `longestMatch`.
    var length: Int
  }

  /// Tokens that must be equal.
  static let shortestMatch = 3
  /// More equal tokens say nothing more about what follows.
  static let longestMatch = 32
  /// How many earlier occurrences are compared.
  private static let comparedOccurrences = 16
  /// How many tokens one call of `match` adds to the index, so that a long prompt does not delay a pass.
  private static let addedPerCall = 4096

  /// For the latest occurrence of each three tokens, the index of the token after it.
  private var latest: [UInt64: Int32] = [:]
  /// For each index of a token, the index after the occurrence before of the three tokens that it follows; -1 for none.
  private var previous: [Int32] = []

  /// The longest of the latest earlier occurrences of the last tokens; `nil` if there is none, or if a long prompt is not
  /// yet in the index.
  /// - Parameter tokens: those of the call before, and any number after them
  mutating func match(_ tokens: [Int32]) -> Match? {
    // The last three tokens are added by the next call. Otherwise, they would be found as their own occurrence.
    add(tokens, upTo: min(tokens.count, previous.count + Self.addedPerCall))
    guard previous.count == tokens.count, tokens.count >= Self.shortestMatch else { return nil }
    var best: Match?
    var next = latest[Self.key(tokens, before: tokens.count)] ?? -1
    for _ in 0..<Self.comparedOccurrences where next >= 0 {
      let length = Self.commonLength(tokens, before: Int(next))
      if length > best?.length ?? 0 { best = Match(next: Int(next), length: length) }
      if length >= Self.longestMatch { break }
      next = previous[Int(next)]
    }
    return best
  }

  /// The tokens that followed a match. Where it reaches to the end of the text, they repeat.
  static func continuation(of match: Match, in tokens: [Int32], count: Int) -> [Int32] {
    var result: [Int32] = []
    result.reserveCapacity(count)
    for index in match.next..<match.next + count {
      result.append(index < tokens.count ? tokens[index] : result[index - tokens.count])
    }
    return result
  }

  /// Adds the three tokens before each index below `end`.
  private mutating func add(_ tokens: [Int32], upTo end: Int) {
    for index in previous.count..<max(end, previous.count) {
      guard index >= Self.shortestMatch else {
        previous.append(-1)
        continue
      }
      let key = Self.key(tokens, before: index)
      previous.append(latest[key] ?? -1)
      latest[key] = Int32(index)
    }
  }

  /// Token ids are below 2^21 in every known vocabulary. Equal keys of unequal tokens only cost a comparison.
  private static func key(_ tokens: [Int32], before index: Int) -> UInt64 {
    UInt64(UInt32(bitPattern: tokens[index - 3])) << 42 ^ UInt64(UInt32(bitPattern: tokens[index - 2])) << 21
      ^ UInt64(UInt32(bitPattern: tokens[index - 1]))
  }

  /// How many tokens before an index are equal to the last of the text.
  private static func commonLength(_ tokens: [Int32], before index: Int) -> Int {
    var length = 0
    while length < min(longestMatch, index), tokens[index - 1 - length] == tokens[tokens.count - 1 - length] {
      length += 1
    }
    return length
  }
}
