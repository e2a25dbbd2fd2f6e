/// The deterministic automaton of a text expression. Its states are the expression's derivatives (Brzozowski, 1964), and each is
/// made when it is first needed.
///
/// Expressions are interned, so that equal states are one number. Scalars that no set of the expression tells apart are one
/// class.
final class TextExpressionAutomaton {
  /// A state: an interned expression.
  typealias State = Int

  private enum Node: Hashable {
    case nothing
    case empty
    case scalar(ScalarSet)
    case sequence(Int, Int)
    case alternatives([Int])
    case repetition(Int, minimum: Int, maximum: Int?)
    case intersection([Int])
    case complement(Int)
  }

  /// The start state.
  private(set) var start: State = 0
  /// The classes of scalars: how many there are.
  private(set) var classCount = 0
  private var nodes: [Node] = []
  private var accepting: [Bool] = []
  private var numbers: [Node: Int] = [:]
  /// Where each range of scalars that no set divides begins, and the class of its scalars.
  private var boundaries: [UInt32] = []
  private var classes: [Int] = []
  /// A scalar of each class.
  private var representatives: [UInt32] = []
  private var transitions: [Int: State] = [:]
  private let budget: CompilationBudget

  /// The automaton of an expression.
  init(_ expression: TextExpression, _ budget: CompilationBudget) throws(CompilationBudget.Exceeded) {
    self.budget = budget
    try budget.spend(expression.size)
    try divide(expression)
    start = try state(expression)
  }

  /// Whether the text read up to this state is in the expression.
  func accepts(_ state: State) -> Bool { accepting[state] }

  /// Whether the state's expression is `nothing`, so that no accepting state can be reached. Other states may have none either;
  /// only a search of their derivatives would tell.
  func isNothing(_ state: State) -> Bool { nodes[state] == .nothing }

  /// The class of a scalar.
  func scalarClass(_ scalar: UInt32) -> Int {
    var (low, high) = (0, boundaries.count)
    while low < high {
      let middle = (low + high) / 2
      if boundaries[middle] <= scalar { low = middle + 1 } else { high = middle }
    }
    return classes[low - 1]
  }

  /// The state after one more scalar of a class.
  func next(_ state: State, _ scalarClass: Int) throws(CompilationBudget.Exceeded) -> State {
    let key = state * classCount + scalarClass
    if let known = transitions[key] { return known }
    let result = try derivative(state, scalarClass)
    transitions[key] = result
    return result
  }

  /// Whether the text is in the expression.
  func matches(_ text: String) throws(CompilationBudget.Exceeded) -> Bool {
    try budget.spend(on: text)
    var state = start
    for scalar in text.unicodeScalars { state = try next(state, scalarClass(scalar.value)) }
    return accepts(state)
  }

  /// Whether no text is in the expression; `nil` if more than `limit` states do not tell.
  func isEmpty(limit: Int) throws(CompilationBudget.Exceeded) -> Bool? {
    var seen: Set<State> = [start]
    var queue = [start]
    while let state = queue.popLast() {
      if accepts(state) { return false }
      for scalarClass in 0..<classCount {
        try budget.spend(1)
        let following = try next(state, scalarClass)
        if isNothing(following) { continue }
        if seen.insert(following).inserted { queue.append(following) }
        if seen.count > limit { return nil }
      }
    }
    return true
  }

  // MARK: classes

  /// Divides the scalars into classes: each set divides the classes that it has some scalars of.
  private func divide(_ expression: TextExpression) throws(CompilationBudget.Exceeded) {
    var sets: Set<ScalarSet> = []
    func collect(_ expression: TextExpression) {
      switch expression {
      case .nothing, .empty: break
      case .scalar(let set): sets.insert(set)
      case .sequence(let parts), .alternatives(let parts), .intersection(let parts): for part in parts { collect(part) }
      case .repetition(let part, _, _), .complement(let part): collect(part)
      }
    }
    collect(expression)
    var edges: Set<UInt32> = [0]
    for set in sets {
      for range in set.ranges { edges.formUnion([range.lowerBound, range.upperBound + 1]) }
    }
    boundaries = edges.sorted().filter { $0 <= 0x10FFFF }
    classes = [Int](repeating: 0, count: boundaries.count)
    classCount = 1
    var counts = [boundaries.count]
    for set in sets {
      let inside = segments(of: set.ranges)
      // A set and its complement divide alike; the smaller one takes less work.
      let smaller = 2 * inside.count <= boundaries.count ? inside : segments(of: set.inverted.ranges)
      try budget.spend(1 + set.ranges.count + smaller.count)
      var divided: [Int: [Int]] = [:]
      for segment in smaller { divided[classes[segment], default: []].append(segment) }
      for (scalarClass, segments) in divided where segments.count < counts[scalarClass] {
        for segment in segments { classes[segment] = classCount }
        counts[scalarClass] -= segments.count
        counts.append(segments.count)
        classCount += 1
      }
    }
    representatives = [UInt32](repeating: 0, count: classCount)
    for (segment, scalarClass) in classes.enumerated() { representatives[scalarClass] = boundaries[segment] }
  }

  /// The positions in `boundaries` of what is in ranges that begin and end there.
  private func segments(of ranges: [ClosedRange<UInt32>]) -> [Int] {
    ranges.flatMap { range in
      Array(position(of: range.lowerBound)..<position(of: range.upperBound + 1))
    }
  }

  /// The position of the first boundary from a scalar on.
  private func position(of scalar: UInt32) -> Int {
    var (low, high) = (0, boundaries.count)
    while low < high {
      let middle = (low + high) / 2
      if boundaries[middle] < scalar { low = middle + 1 } else { high = middle }
    }
    return low
  }

  // MARK: interned expressions

  private func intern(_ node: Node) throws(CompilationBudget.Exceeded) -> Int {
    if let known = numbers[node] { return known }
    try budget.spend(4)
    nodes.append(node)
    numbers[node] = nodes.count - 1
    accepting.append(acceptsEmpty(node))
    return nodes.count - 1
  }

  private func acceptsEmpty(_ node: Node) -> Bool {
    switch node {
    case .nothing, .scalar: false
    case .empty: true
    case .sequence(let first, let rest): accepting[first] && accepting[rest]
    case .alternatives(let parts): parts.contains { accepting[$0] }
    case .repetition(let part, let minimum, _): minimum == 0 || accepting[part]
    case .intersection(let parts): parts.allSatisfy { accepting[$0] }
    case .complement(let part): !accepting[part]
    }
  }

  private func state(_ expression: TextExpression) throws(CompilationBudget.Exceeded) -> State {
    switch expression {
    case .nothing: return try intern(.nothing)
    case .empty: return try intern(.empty)
    case .scalar(let set): return try intern(set.isEmpty ? .nothing : .scalar(set))
    case .sequence(let parts):
      var result = try intern(.empty)
      for part in parts.reversed() { result = try sequence(state(part), result) }
      return result
    case .alternatives(let parts): return try alternatives(states(parts))
    case .repetition(let part, let minimum, let maximum): return try repetition(state(part), minimum, maximum)
    case .intersection(let parts): return try intersection(states(parts))
    case .complement(let part): return try complement(state(part))
    }
  }

  private func states(_ parts: [TextExpression]) throws(CompilationBudget.Exceeded) -> [State] {
    var result: [State] = []
    for part in parts { result.append(try state(part)) }
    return result
  }

  private func sequence(_ first: Int, _ rest: Int) throws(CompilationBudget.Exceeded) -> Int {
    // The parts of the first, so that the first part of a sequence is never a sequence.
    var parts: [Int] = []
    var first = first
    while case .sequence(let head, let tail) = nodes[first] {
      parts.append(head)
      first = tail
    }
    parts.append(first)
    try budget.spend(parts.count)
    var result = rest
    for part in parts.reversed() {
      switch (nodes[part], nodes[result]) {
      case (.nothing, _), (_, .nothing): result = try intern(.nothing)
      case (.empty, _): break
      case (_, .empty): result = part
      default: result = try intern(.sequence(part, result))
      }
    }
    return result
  }

  private func alternatives(_ parts: [Int]) throws(CompilationBudget.Exceeded) -> Int {
    var kept: Set<Int> = []
    for part in parts {
      switch nodes[part] {
      case .nothing: break
      case .alternatives(let inner):
        try budget.spend(inner.count)
        kept.formUnion(inner)
      default: kept.insert(part)
      }
    }
    try budget.spend(parts.count + kept.count)
    let everything = try complement(intern(.nothing))
    if kept.contains(everything) { return everything }
    return try kept.isEmpty ? intern(.nothing) : kept.count == 1 ? kept.first! : intern(.alternatives(kept.sorted()))
  }

  private func intersection(_ parts: [Int]) throws(CompilationBudget.Exceeded) -> Int {
    var kept: Set<Int> = []
    for part in parts {
      switch nodes[part] {
      case .nothing: return part
      case .intersection(let inner):
        try budget.spend(inner.count)
        kept.formUnion(inner)
      default: kept.insert(part)
      }
    }
    try budget.spend(parts.count + kept.count)
    let everything = try complement(intern(.nothing))
    kept.remove(everything)
    return try kept.isEmpty ? everything : kept.count == 1 ? kept.first! : intern(.intersection(kept.sorted()))
  }

  private func complement(_ part: Int) throws(CompilationBudget.Exceeded) -> Int {
    if case .complement(let inner) = nodes[part] { return inner }
    return try intern(.complement(part))
  }

  private func repetition(_ part: Int, _ minimum: Int, _ maximum: Int?) throws(CompilationBudget.Exceeded) -> Int {
    if maximum == 0 { return try intern(.empty) }
    if minimum == 1, maximum == 1 { return part }
    switch nodes[part] {
    case .empty: return part
    case .nothing: return minimum == 0 ? try intern(.empty) : part
    default: return try intern(.repetition(part, minimum: minimum, maximum: maximum))
    }
  }

  private func derivative(_ state: State, _ scalarClass: Int) throws(CompilationBudget.Exceeded) -> State {
    try budget.spend(1)
    switch nodes[state] {
    case .nothing, .empty: return try intern(.nothing)
    case .scalar(let set): return try intern(set.contains(representatives[scalarClass]) ? .empty : .nothing)
    case .sequence: return try derivativeOfSequence(state, scalarClass)
    case .alternatives(let parts): return try alternatives(following(parts, scalarClass))
    case .repetition(let part, let minimum, let maximum):
      let rest = try repetition(part, max(0, minimum - 1), maximum.map { $0 - 1 })
      return try sequence(next(part, scalarClass), rest)
    case .intersection(let parts): return try intersection(following(parts, scalarClass))
    case .complement(let part): return try complement(next(part, scalarClass))
    }
  }

  private func following(_ parts: [Int], _ scalarClass: Int) throws(CompilationBudget.Exceeded) -> [State] {
    var result: [State] = []
    for part in parts { result.append(try next(part, scalarClass)) }
    return result
  }

  /// Of the first part, and as long as the parts may be empty, of the next ones. It is a loop, since there may be many parts.
  private func derivativeOfSequence(_ state: State, _ scalarClass: Int) throws(CompilationBudget.Exceeded) -> State {
    var results: [State] = []
    var rest = state
    while case .sequence(let head, let tail) = nodes[rest] {
      results.append(try sequence(next(head, scalarClass), tail))
      rest = tail
      if !accepting[head] { return try alternatives(results) }
    }
    return try alternatives(results + [next(rest, scalarClass)])
  }
}
