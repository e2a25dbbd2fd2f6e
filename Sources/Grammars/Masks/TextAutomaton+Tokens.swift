extension TextAutomaton {
  /// Writes the mask of the tokens whose bytes may follow a state.
  /// - Parameter vocabulary: the same in all calls
  mutating func allowTokens(
    of vocabulary: TokenVocabulary, after state: Int32, in mask: UnsafeMutableBufferPointer<UInt32>
  ) throws(GrammarError) {
    let found = try self.mask(after: state) { (automaton) throws(GrammarError) in
      try automaton.tokens(of: vocabulary, after: state)
    }
    _ = mask.update(from: found)
  }

  private mutating func tokens(of vocabulary: TokenVocabulary, after state: Int32) throws(GrammarError) -> [UInt32] {
    var mask = [UInt32](repeating: 0, count: vocabulary.maskWords)
    var path: [Int32] = [state]
    var index = 0
    let last = vocabulary.nodes.count - 1
    while index < last {
      let node = vocabulary.nodes[index]
      path.removeLast(path.count - Int(node.depth))
      let next = try next(path[path.count - 1], byte: node.byte)
      if next == Self.dead {
        index = Int(node.next)
        continue
      }
      path.append(next)
      for position in Int(node.firstToken)..<Int(vocabulary.nodes[index + 1].firstToken) {
        let token = Int(vocabulary.nodeTokens[position])
        mask[token >> 5] |= 1 << UInt32(token & 31)
      }
      index += 1
    }
    return mask
  }

  /// The only byte that may follow a state; nil if there are several or none.
  mutating func onlyByte(_ state: Int32) throws(GrammarError) -> UInt8? {
    var found: UInt8?
    for byteClass in 0..<classCount where try next(state, byteClass) != Self.dead {
      if found != nil { return nil }
      found = lexer.representatives[byteClass]
    }
    guard let found else { return nil }
    let byteClass = lexer.classes[Int(found)]
    return lexer.classes.count { $0 == byteClass } == 1 ? found : nil
  }
}
