extension ExpressionTable {
  /// What may follow a byte: the strings that, after the byte, are in the expression.
  ///
  /// `alike` is narrowed to bytes for which the answer is the same. `byte` stays in it.
  mutating func derivative(_ node: Node, _ byte: UInt8, _ alike: inout ByteSet) throws(GrammarError) -> Node {
    try spend(1)
    switch kind(node) {
    case .nothing, .empty:
      return Self.nothing
    case .byte:
      let set = byteSet(node)
      let isMember = set.contains(byte)
      alike = alike.intersection(isMember ? set : set.inverted)
      return isMember ? Self.empty : Self.nothing
    case .sequence:
      return try derivativeOfSequence(node, byte, &alike)
    case .repetition:
      let (body, minimum, maximum) = (operand(node, 0), operand(node, 1), operand(node, 2))
      let first = try derivative(body, byte, &alike)
      if first == Self.nothing { return first }
      return try sequence(first, repetition(body, max(0, minimum - 1), maximum == -1 ? -1 : maximum - 1))
    case .alternatives:
      var members: [Node] = []
      for member in operands(node) {
        let result = try derivative(member, byte, &alike)
        if result != Self.nothing { members.append(result) }
      }
      return members.count == 1 ? members[0] : try alternatives(members)
    case .intersection:
      var members: [Node] = []
      for member in operands(node) {
        let result = try derivative(member, byte, &alike)
        if result == Self.nothing { return result }
        members.append(result)
      }
      return try intersection(members)
    case .complement:
      return complement(try derivative(operand(node, 0), byte, &alike))
    }
  }

  /// The derivative of a sequence: of its first part, and as long as the parts may be empty, of the next ones.
  private mutating func derivativeOfSequence(_ node: Node, _ byte: UInt8, _ alike: inout ByteSet) throws(GrammarError)
    -> Node
  {
    var results: [Node] = []
    var rest = node
    while true {
      let isSequence = kind(rest) == .sequence
      let head = isSequence ? operand(rest, 0) : rest
      let first = try derivative(head, byte, &alike)
      if first != Self.nothing { results.append(isSequence ? try sequence(first, operand(rest, 1)) : first) }
      if !isSequence || !isNullable(head) { break }
      rest = operand(rest, 1)
    }
    if results.isEmpty { return Self.nothing }
    return results.count == 1 ? results[0] : try alternatives(results)
  }

  /// Whether any string is in the expression.
  ///
  /// Where intersections and complements are concerned, the derivatives are searched for one that contains the empty string.
  mutating func isLive(_ node: Node) throws(GrammarError) -> Bool {
    if let known = knownLiveness(node) { return known }
    let answer: Bool
    switch kind(node) {
    case .nothing: answer = false
    case .empty, .byte: answer = true
    case .sequence:
      var rest = node
      var allAreLive = true
      while kind(rest) == .sequence, allAreLive {
        try spend(1)
        allAreLive = try isLive(operand(rest, 0))
        rest = operand(rest, 1)
      }
      answer = allAreLive ? try isLive(rest) : false
    case .alternatives:
      var isAnyLive = false
      for member in operands(node) where !isAnyLive { isAnyLive = try isLive(member) }
      answer = isAnyLive
    case .repetition:
      answer = operand(node, 1) == 0 ? true : try isLive(operand(node, 0))
    case .intersection, .complement:
      return try searchString(from: node)
    }
    setLiveness(node, answer)
    return answer
  }

  /// Searches the derivatives breadth first, and records the answer for all nodes that it decides.
  private mutating func searchString(from start: Node) throws(GrammarError) -> Bool {
    var parents: [Node: Node] = [start: start]
    var queue = [start]
    var position = 0
    while position < queue.count {
      let node = queue[position]
      position += 1
      var rest = ByteSet.all
      while let byte = rest.first {
        var alike = ByteSet.all
        let next = try derivative(node, byte, &alike)
        rest = rest.intersection(alike.inverted)
        if parents[next] != nil { continue }
        let isSearched = kind(next) == .intersection || kind(next) == .complement
        let known = isSearched ? knownLiveness(next) : try isLive(next)
        if known == true {
          var onPath = node
          setLiveness(onPath, true)
          while let parent = parents[onPath], parent != onPath {
            setLiveness(parent, true)
            onPath = parent
          }
          return true
        }
        if known == false { continue }
        parents[next] = node
        queue.append(next)
      }
    }
    for node in queue { setLiveness(node, false) }
    return false
  }
}

extension ByteSet {
  /// The lowest byte in the set.
  var first: UInt8? {
    for byte in UInt8.min...UInt8.max where contains(byte) { return byte }
    return nil
  }
}
