extension ExpressionTable {
  /// The node of an expression. Throws if the expression is nested too deeply or a count is too large.
  mutating func node(_ expression: ByteExpression, depth: Int) throws(GrammarError) -> Node {
    if depth == 0 { throw .tooLarge(what: "levels of nested expressions", limit: depthLimit) }
    try spend(1)
    switch expression {
    case .nothing: return Self.nothing
    case .empty: return Self.empty
    case .byte(let set): return byte(set)
    case .sequence(let parts):
      var nodes: [Node] = []
      for part in parts { nodes.append(try node(part, depth: depth - 1)) }
      var result = Self.empty
      for part in nodes.reversed() { result = try sequence(part, result) }
      return result
    case .alternatives(let members):
      var nodes: [Node] = []
      for member in members { nodes.append(try node(member, depth: depth - 1)) }
      return try alternatives(sharingBeginnings(nodes))
    case .repetition(let body, let minimum, let maximum):
      let largest = Int(Int32.max)
      guard minimum >= 0, minimum <= largest, maximum ?? 0 <= largest else {
        throw .tooLarge(what: "repetitions", limit: largest)
      }
      if let maximum, maximum < minimum { return Self.nothing }
      return try repetition(node(body, depth: depth - 1), Int32(minimum), maximum.map { Int32($0) } ?? -1)
    case .intersection(let members):
      var nodes: [Node] = []
      for member in members { nodes.append(try node(member, depth: depth - 1)) }
      return try intersection(nodes)
    case .complement(let inner):
      return complement(try node(inner, depth: depth - 1))
    }
  }

  /// Joins sequences that begin alike, so that a long list of words becomes a tree of their beginnings.
  ///
  /// A derivative then looks at one branch of the tree for each first part instead of at every word.
  mutating func sharingBeginnings(_ nodes: [Node]) throws(GrammarError) -> [Node] {
    if nodes.count < 8 { return nodes }
    var result: [Node] = []
    var words: [[Node]] = []
    for node in nodes {
      if kind(node) != .sequence {
        result.append(node)
        continue
      }
      var word: [Node] = []
      var rest = node
      while kind(rest) == .sequence {
        try spend(1)
        word.append(operand(rest, 0))
        rest = operand(rest, 1)
      }
      word.append(rest)
      words.append(word)
    }
    words.sort { $0.lexicographicallyPrecedes($1) }
    // The branches along the current word: for each depth, the alternatives that follow the word's beginning up to there.
    var branches: [[Node]] = [[]]
    for (index, word) in words.enumerated() {
      let next = index + 1 < words.count ? words[index + 1] : []
      var common = 0
      while common < word.count, common < next.count, word[common] == next[common] { common += 1 }
      while branches.count <= min(common, word.count) { branches.append([]) }
      var depth = branches.count - 1
      // What the word has beyond its deepest branch.
      var tail = Self.empty
      for part in word[min(depth, word.count)...].reversed() { tail = try sequence(part, tail) }
      branches[depth].append(tail)
      // The branches that the next word does not share are complete.
      while depth > common {
        let members = try alternatives(branches.removeLast())
        depth -= 1
        branches[depth].append(try sequence(word[depth], members))
      }
    }
    return result + branches[0]
  }
}
