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
  private var boundaries: [UInt32] = []
  private var classes: [Int] = []
  private var members: [ScalarSet: [Bool]] = [:]
  private var transitions: [Int: State] = [:]

  /// The automaton of an expression.
  init(_ expression: TextExpression) {
    divide(expression)
    start = state(expression)
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
  func next(_ state: State, _ scalarClass: Int) -> State {
    let key = state * classCount + scalarClass
    if let known = transitions[key] { return known }
    let result = derivative(state, scalarClass)
    transitions[key] = result
    return result
  }

  /// Whether the text is in the expression.
  func matches(_ text: String) -> Bool {
    var state = start
    for scalar in text.unicodeScalars { state = next(state, scalarClass(scalar.value)) }
    return accepts(state)
  }

  /// Whether no text is in the expression; `nil` if more than `limit` states do not tell.
  func isEmpty(limit: Int) -> Bool? {
    var seen: Set<State> = [start]
    var queue = [start]
    while let state = queue.popLast() {
      if accepts(state) { return false }
      for scalarClass in 0..<classCount {
        let following = next(state, scalarClass)
        if isNothing(following) { continue }
        if seen.insert(following).inserted { queue.append(following) }
      }
      if seen.count > limit { return nil }
    }
    return true
  }

  // MARK: classes

  private func divide(_ expression: TextExpression) {
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
    let ordered = Array(sets)
    var edges: Set<UInt32> = [0]
    for range in ordered.flatMap(\.ranges) { edges.formUnion([range.lowerBound, range.upperBound + 1]) }
    boundaries = edges.sorted().filter { $0 <= 0x10FFFF }
    var positions = [Int](repeating: 0, count: ordered.count)
    var signatures: [[Bool]: Int] = [:]
    for boundary in boundaries {
      let signature = ordered.indices.map { index in
        let ranges = ordered[index].ranges
        while positions[index] < ranges.count, ranges[positions[index]].upperBound < boundary { positions[index] += 1 }
        return positions[index] < ranges.count && ranges[positions[index]].contains(boundary)
      }
      classes.append(signatures[signature, default: signatures.count])
      signatures[signature] = classes.last
    }
    classCount = signatures.count
    for (index, set) in ordered.enumerated() {
      var inside = [Bool](repeating: false, count: classCount)
      for (signature, scalarClass) in signatures { inside[scalarClass] = signature[index] }
      members[set] = inside
    }
  }

  // MARK: interned expressions

  private func intern(_ node: Node) -> Int {
    if let known = numbers[node] { return known }
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

  private func state(_ expression: TextExpression) -> State {
    switch expression {
    case .nothing: intern(.nothing)
    case .empty: intern(.empty)
    case .scalar(let set): set.isEmpty ? intern(.nothing) : intern(.scalar(set))
    case .sequence(let parts): parts.reversed().reduce(intern(.empty)) { sequence(state($1), $0) }
    case .alternatives(let parts): alternatives(parts.map(state))
    case .repetition(let part, let minimum, let maximum): repetition(state(part), minimum, maximum)
    case .intersection(let parts): intersection(parts.map(state))
    case .complement(let part): complement(state(part))
    }
  }

  private func sequence(_ first: Int, _ rest: Int) -> Int {
    switch (nodes[first], nodes[rest]) {
    case (.nothing, _), (_, .nothing): intern(.nothing)
    case (.empty, _): rest
    case (_, .empty): first
    case (.sequence(let head, let tail), _): sequence(head, sequence(tail, rest))
    default: intern(.sequence(first, rest))
    }
  }

  private func alternatives(_ parts: [Int]) -> Int {
    var kept: Set<Int> = []
    for part in parts {
      switch nodes[part] {
      case .nothing: break
      case .alternatives(let inner): kept.formUnion(inner)
      default: kept.insert(part)
      }
    }
    let everything = complement(intern(.nothing))
    if kept.contains(everything) { return everything }
    return kept.isEmpty ? intern(.nothing) : kept.count == 1 ? kept.first! : intern(.alternatives(kept.sorted()))
  }

  private func intersection(_ parts: [Int]) -> Int {
    var kept: Set<Int> = []
    for part in parts {
      switch nodes[part] {
      case .nothing: return part
      case .intersection(let inner): kept.formUnion(inner)
      default: kept.insert(part)
      }
    }
    let everything = complement(intern(.nothing))
    kept.remove(everything)
    return kept.isEmpty ? everything : kept.count == 1 ? kept.first! : intern(.intersection(kept.sorted()))
  }

  private func complement(_ part: Int) -> Int {
    if case .complement(let inner) = nodes[part] { return inner }
    return intern(.complement(part))
  }

  private func repetition(_ part: Int, _ minimum: Int, _ maximum: Int?) -> Int {
    if maximum == 0 { return intern(.empty) }
    if minimum == 1, maximum == 1 { return part }
    switch nodes[part] {
    case .empty: return part
    case .nothing: return minimum == 0 ? intern(.empty) : part
    default: return intern(.repetition(part, minimum: minimum, maximum: maximum))
    }
  }

  private func derivative(_ state: State, _ scalarClass: Int) -> State {
    switch nodes[state] {
    case .nothing, .empty: return intern(.nothing)
    case .scalar(let set): return intern(members[set]![scalarClass] ? .empty : .nothing)
    case .sequence(let first, let rest):
      let through = sequence(next(first, scalarClass), rest)
      return accepting[first] ? alternatives([through, next(rest, scalarClass)]) : through
    case .alternatives(let parts): return alternatives(parts.map { next($0, scalarClass) })
    case .repetition(let part, let minimum, let maximum):
      let rest = repetition(part, max(0, minimum - 1), maximum.map { $0 - 1 })
      return sequence(next(part, scalarClass), rest)
    case .intersection(let parts): return intersection(parts.map { next($0, scalarClass) })
    case .complement(let part): return complement(next(part, scalarClass))
    }
  }
}
