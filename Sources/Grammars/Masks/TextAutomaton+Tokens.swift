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

  /// The tokens of plain text up to some length are all allowed, or none from some length on, after most states. The others are
  /// looked up one by one.
  private mutating func tokens(of vocabulary: TokenVocabulary, after state: Int32) throws(GrammarError) -> [UInt32] {
    let (allowed, isMaximum) = try plainCharacters(after: state, limit: TokenVocabulary.longestPlain)
    var mask = vocabulary.plainMasks[allowed]
    if !isMaximum {
      let (letters, areAllLetters) = try plainCharacters(
        after: state, limit: TokenVocabulary.longestPlain, areLetters: true)
      if letters > 0 {
        for word in mask.indices { mask[word] |= vocabulary.letterMasks[letters][word] }
      }
      if !areAllLetters { try allow(vocabulary.letters, after: state, longerThan: letters, in: &mask) }
      try allow(vocabulary.plain, after: state, longerThan: allowed, in: &mask)
    }
    try allow(vocabulary.others, after: state, longerThan: 0, in: &mask)
    return mask
  }

  /// How many characters of plain text may follow, whichever they are, or how many of it that are letters.
  /// - Returns: the number, up to the limit, and whether no longer plain text is possible or the limit was reached
  private mutating func plainCharacters(
    after state: Int32, limit: Int, areLetters: Bool = false
  ) throws(GrammarError) -> (count: Int, isMaximum: Bool) {
    var reached: Set<Int32> = [state]
    for count in 0..<limit {
      var following: Set<Int32> = []
      var stops = 0
      for state in reached {
        switch try plainStep(after: state, isLetter: areLetters) {
        case .some: return (count, false)
        case .none: stops += 1
        case .all(let states): following.formUnion(states)
        }
      }
      if stops > 0 { return (count, stops == reached.count) }
      if following == reached { break }
      if following.count > Self.mostPlainStates { return (count + 1, count + 1 == limit) }
      reached = following
    }
    return (limit, true)
  }

  /// Adds the tokens of a tree that may follow a state.
  /// - Parameter longerThan: tokens of at most as many characters may be left out
  private mutating func allow(
    _ tree: TokenTree, after state: Int32, longerThan characters: Int, in mask: inout [UInt32]
  ) throws(GrammarError) {
    var path = [Int32](repeating: state, count: tree.depth + 1)
    var index = 0
    let last = tree.nodes.count - 1
    let (classes, classCount) = (lexer.classes, classCount)
    while index < last {
      // The walk stops where a transition has not been needed yet.
      var visited = 0
      let unknown = transitions.withUnsafeBufferPointer { transitions -> Int32? in
        tree.nodes.withUnsafeBufferPointer { nodes in
          while index < last {
            let node = nodes[index]
            visited += 1
            if Int(node.characters) <= characters {
              index = Int(node.next)
              continue
            }
            let from = path[Int(node.depth) - 1]
            let next = transitions[Int(from) * classCount + Int(classes[Int(node.byte)])]
            if next < 0 { return from }
            if next == Self.dead {
              index = Int(node.next)
              continue
            }
            path[Int(node.depth)] = next
            for position in Int(node.firstToken)..<Int(nodes[index + 1].firstToken) {
              let token = Int(tree.tokens[position])
              mask[token >> 5] |= 1 << UInt32(token & 31)
            }
            index += 1
          }
          return nil
        }
      }
      try lexer.expressions.spend(visited / 16)
      if let unknown { _ = try next(unknown, byte: tree.nodes[index].byte) }
    }
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
