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
    var found: (Int32, Int)?
    var (node, end) = (0, nodes.count - 1)
    for (offset, byte) in text.enumerated() {
      while node < end, nodes[node].byte != byte { node = Int(nodes[node].next) }
      guard node < end else { return found }
      if nodes[node].firstToken < nodes[node + 1].firstToken {
        found = (nodeTokens[Int(nodes[node].firstToken)], offset + 1)
      }
      (node, end) = (node + 1, Int(nodes[node].next))
    }
    return found
  }
}
