extension TokenVocabulary {
  /// Tokens whose texts together are the given one, each the longest that the rest of the text begins with. That is how most
  /// tokenizers split the fixed parts of a structured text.
  /// - Parameter limit: the maximum tokens
  /// - Returns: fewer tokens if no token begins what is left
  public func tokens(of text: [UInt8], limit: Int) -> [Int32] {
    var result: [Int32] = []
    var start = 0
    while start < text.count, result.count < limit, let (token, length) = longestToken(text[start...]) {
      result.append(token)
      start += length
    }
    return result
  }

  /// The longest token that a text begins with.
  private func longestToken(_ text: ArraySlice<UInt8>) -> (token: Int32, length: Int)? {
    var longest: (token: Int32, length: Int)?
    for tree in [letters, plain, others] {
      if let found = tree.longestToken(text), found.length > longest?.length ?? 0 { longest = found }
    }
    return longest
  }
}
