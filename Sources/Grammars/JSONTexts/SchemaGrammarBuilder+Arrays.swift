extension SchemaGrammarBuilder {
  /// The maximum of `minItems`, `maxItems` and the bounds of `contains`.
  private static let mostItems = 10_000
  private static let mostContains = 3

  /// Between two items of an array.
  private struct ItemState: Hashable {
    /// How many items there are, up to a limit from which on every count allows the same items to follow.
    var count: Int
    /// For each `contains`, how many items satisfy it, up to such a limit.
    var contained: [Int]
  }

  /// Lets a symbol derive the arrays that meet the demands.
  mutating func addArray(_ conjunction: SchemaConjunction, to symbol: Grammar.Symbol) throws(SchemaError) {
    let demands = conjunction.array
    let count = demands.count.range
    if let path = demands.unique, count.maximum.map({ $0 > 1 }) ?? true {
      return try addUniqueItems(demands, path, to: symbol)
    }
    let prefix = (demands.groups.map(\.prefix.count) + demands.contains.map(\.from)).max() ?? 0
    let most = max(
      count.minimum, count.maximum ?? 0,
      demands.contains.map { max($0.range.minimum, $0.range.maximum ?? 0) }.max() ?? 0)
    guard most <= Self.mostItems, demands.contains.count <= Self.mostContains else {
      let limit = most > Self.mostItems ? "\(Self.mostItems) items" : "\(Self.mostContains) times contains"
      let path = demands.count.path(above: Self.mostItems) ?? demands.containsPaths.last ?? "#"
      throw SchemaError(path, "minItems, maxItems or contains: more than \(limit)")
    }
    let limit = max(prefix, count.minimum, count.maximum.map { $0 + 1 } ?? 0)
    let containedLimits = demands.contains.map { max($0.range.minimum, $0.range.maximum.map { $0 + 1 } ?? 0) }

    var known: [ItemState: (item: Grammar.Symbol, after: Grammar.Symbol)] = [:]
    var waiting: [ItemState] = []
    func symbols(
      _ state: ItemState, in builder: inout SchemaGrammarBuilder
    ) throws(SchemaError) -> (item: Grammar.Symbol, after: Grammar.Symbol) {
      if let symbols = known[state] { return symbols }
      let symbols = (try builder.addSymbol("item"), try builder.addSymbol("after an item"))
      known[state] = symbols
      waiting.append(state)
      return symbols
    }
    func canEnd(_ state: ItemState) -> Bool {
      state.count >= count.minimum
        && zip(state.contained, demands.contains).allSatisfy { $0 >= $1.range.minimum }
    }
    let start = ItemState(count: 0, contained: demands.contains.map { _ in 0 })
    if canEnd(start) { try addRule(symbol, .expression(notation.emptyArray)) }
    try addRule(symbol, .expression(notation.openArray), .symbol(try symbols(start, in: &self).item))
    while let state = waiting.popLast() {
      let from = known[state]!
      if canEnd(state) { try addRule(from.after, .expression(notation.closeArray)) }
      if let maximum = count.maximum, state.count >= maximum { continue }
      try addRule(from.after, .expression(notation.comma), .symbol(from.item))
      let demanded = demands.groups.compactMap { state.count < $0.prefix.count ? $0.prefix[state.count] : $0.rest }
      for choice in 0..<(1 << demands.contains.count) {
        var next = state
        next.count = min(state.count + 1, limit)
        var literals = demanded
        var isPossible = true
        for (index, contains) in demands.contains.enumerated() {
          let counts = choice >> index & 1 == 1
          if counts {
            guard state.count >= contains.from, contains.range.maximum.map({ state.contained[index] < $0 }) ?? true,
              contains.range.maximum != nil || state.contained[index] < contains.range.minimum
            else {
              isPossible = false
              break
            }
            next.contained[index] = min(state.contained[index] + 1, containedLimits[index])
            literals.append(contains.item)
          } else if contains.range.maximum != nil, state.count >= contains.from {
            literals.append(contains.item.negated)
          }
        }
        guard isPossible else { continue }
        try addRule(from.item, .symbol(try self.symbol(for: literals)), .symbol(try symbols(next, in: &self).after))
      }
    }
  }
}
