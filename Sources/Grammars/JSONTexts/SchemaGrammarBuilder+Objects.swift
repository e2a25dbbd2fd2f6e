import Formats

extension SchemaGrammarBuilder {
  private static let mostPatterns = 8
  private static let mostCells = 64
  private static let mostCounted = 2_000

  /// A property that is declared or demanded by name.
  private struct Property {
    let key: Grammar.Terminal
    let value: Grammar.Symbol
    let isRequired: Bool
  }

  /// The other keys that the same patterns match.
  private struct Cell {
    var keys: [TextExpression]
    var literals: [SchemaLiteral] = []
  }

  /// A position between two properties.
  private struct Position: Hashable {
    /// How many of the declared properties were written or left out.
    var decided: Int
    /// How many properties were written, up to a limit from which on every count allows the same ones to follow.
    var written: Int
  }

  /// Lets a symbol derive the objects that meet the demands: declared properties in their order, then others.
  mutating func addObject(_ conjunction: SchemaConjunction, to symbol: Grammar.Symbol) throws(SchemaError) {
    let demands = conjunction.object
    var keys: [String] = []
    var seen: Set<String> = []
    for key in demands.groups.flatMap({ $0.names.map(\.key) }) + demands.required where seen.insert(key).inserted {
      keys.append(key)
    }
    // Keys that are not declared could come twice and count once. Where they are a few names, they become declared.
    let minimum = demands.count.range.minimum
    if minimum > demands.required.count + 1 {
      for key in try keyNames(demands.propertyNames) where seen.insert(key).inserted { keys.append(key) }
    }
    let named = try keyExpression(demands.propertyNames)
    var properties: [Property] = []
    for key in keys {
      var literals = try expander.literals(ofKey: key, demands.groups)
      if let named {
        let isAllowed = try budget.at(path(of: conjunction.literals)) { (_) throws(CompilationBudget.Exceeded) in
          try expander.matches(key, named)
        }
        if !isAllowed { literals = [SchemaDocument.never] }
      }
      let isRequired = demands.requires(key)
      if literals.contains(SchemaDocument.never), !isRequired { continue }
      try budget.spend(key.utf8.count, at: path(of: conjunction.literals))
      properties.append(
        Property(key: try terminal(notation.key(key)), value: try self.symbol(for: literals), isRequired: isRequired))
    }
    let cells = try cells(of: demands, besides: keys, named: named, conjunction)
    var pairs: [(key: Grammar.Terminal, value: Grammar.Symbol)] = []
    // Most schemas allow no other keys.
    for cell in cells where try !isNever(cell.literals) {
      let text = TextExpression.all(cell.keys)
      if try hasText(text, conjunction) {
        pairs.append((try terminal(string(text)), try self.symbol(for: cell.literals)))
      }
    }
    let required = properties.count { $0.isRequired }
    if !pairs.isEmpty, minimum > required + 1 {
      throw SchemaError(
        demands.count.minimumPath ?? "#", "minProperties of more than one key that is not required is not supported")
    }
    try addPairs(properties, pairs, count: demands.count, to: symbol)
  }

  /// Symbols for what may follow each position. After a comma a property has to come, so that there are two for each.
  private mutating func addPairs(
    _ properties: [Property], _ others: [(key: Grammar.Terminal, value: Grammar.Symbol)],
    count bounds: SchemaConjunction.BoundCount, to symbol: Grammar.Symbol
  ) throws(SchemaError) {
    if let path = bounds.path(above: Self.mostCounted) {
      throw SchemaError(path, "minProperties or maxProperties above \(Self.mostCounted)")
    }
    let count = bounds.range
    let limit = max(count.minimum, count.maximum ?? 0)
    var known: [Position: (key: Grammar.Symbol, after: Grammar.Symbol)] = [:]
    var waiting: [Position] = []
    func symbols(
      _ position: Position, in builder: inout SchemaGrammarBuilder
    ) throws(SchemaError) -> (key: Grammar.Symbol, after: Grammar.Symbol) {
      if let symbols = known[position] { return symbols }
      let symbols = (try builder.addSymbol("key"), try builder.addSymbol("after a property"))
      known[position] = symbols
      waiting.append(position)
      return symbols
    }
    let lastRequired = properties.lastIndex { $0.isRequired }.map { $0 + 1 } ?? 0
    func canEnd(_ position: Position) -> Bool {
      position.decided >= lastRequired && position.written >= count.minimum
    }
    let start = Position(decided: 0, written: 0)
    if canEnd(start) { try addRule(symbol, .expression(notation.emptyObject)) }
    try addRule(symbol, .expression(notation.openObject), .symbol(try symbols(start, in: &self).key))
    while let position = waiting.popLast() {
      let from = known[position]!
      if canEnd(position) { try addRule(from.after, .expression(notation.closeObject)) }
      var next = Position(decided: position.decided + 1, written: min(position.written + 1, limit))
      let isFull = count.maximum.map { position.written >= $0 } ?? false
      if !isFull { try addRule(from.after, .expression(notation.comma), .symbol(from.key)) }
      if position.decided < properties.count {
        let property = properties[position.decided]
        if !isFull {
          let after = try symbols(next, in: &self).after
          try addRule(from.key, .terminal(property.key), .symbol(property.value), .symbol(after))
        }
        if !property.isRequired {
          next.written = position.written
          try addRule(from.key, .symbol(try symbols(next, in: &self).key))
        }
      } else if !isFull {
        next.decided = position.decided
        for other in others {
          let after = try symbols(next, in: &self).after
          try addRule(
            from.key, .terminal(other.key), .expression(notation.colon), .symbol(other.value), .symbol(after))
        }
      }
    }
  }

  /// The keys that `propertyNames` allows, if it lists them.
  private func keyNames(_ literals: [SchemaLiteral]) throws(SchemaError) -> [String] {
    if literals.isEmpty { return [] }
    return try finiteValues(of: literals)?.compactMap(\.string) ?? []
  }

  /// The keys that `propertyNames` allows; `nil` for all.
  private func keyExpression(_ literals: [SchemaLiteral]) throws(SchemaError) -> TextExpression? {
    if literals.isEmpty { return nil }
    var parts: [TextExpression] = []
    for conjunction in try expander.alternatives(literals) where conjunction.kinds.contains(.string) {
      for refusal in conjunction.refusals where refusal.kinds.contains(.string) { throw refusal.error }
      if let list = conjunction.values {
        var validator = SchemaValidator(expander)
        for value in expander.keywords.values[list] where try validator.accepts(value, all: conjunction.literals) {
          if let text = value.string { parts.append(.literal(text)) }
        }
      } else {
        parts.append(conjunction.string.expression)
      }
    }
    return .either(parts)
  }

  /// The keys that are not declared, divided by the patterns that match them; those that no property may have are left out.
  private func cells(
    of demands: SchemaConjunction.ObjectDemands, besides keys: [String], named: TextExpression?,
    _ conjunction: SchemaConjunction
  ) throws(SchemaError) -> [Cell] {
    var patterns: [TextExpression] = []
    for pattern in demands.groups.flatMap(\.patterns) where !patterns.contains(pattern.keys) {
      patterns.append(pattern.keys)
      if patterns.count > Self.mostPatterns { throw tooManyPatterns(conjunction) }
    }
    let declared = keys.isEmpty ? [] : [TextExpression.complement(.any(of: keys))]
    var cells = [(matched: Set<TextExpression>(), keys: declared + (named.map { [$0] } ?? []))]
    for pattern in patterns {
      var divided: [(matched: Set<TextExpression>, keys: [TextExpression])] = []
      for cell in cells {
        let inside = cell.keys + [pattern]
        if try hasText(.all(inside), conjunction) { divided.append((cell.matched.union([pattern]), inside)) }
        let outside = cell.keys + [.complement(pattern)]
        if try hasText(.all(outside), conjunction) { divided.append((cell.matched, outside)) }
      }
      cells = divided
      if cells.count > Self.mostCells { throw tooManyPatterns(conjunction) }
    }
    return cells.compactMap { cell in
      var result = Cell(keys: cell.keys)
      for group in demands.groups {
        let matched = group.patterns.filter { cell.matched.contains($0.keys) }.map(\.value)
        result.literals += matched
        if matched.isEmpty, let additional = group.additional { result.literals.append(additional) }
      }
      return result.literals.contains(SchemaDocument.never) ? nil : result
    }
  }

  private func tooManyPatterns(_ conjunction: SchemaConjunction) -> SchemaError {
    let path = conjunction.literals.min().map { expander.document[$0].path } ?? "#"
    return SchemaError(path, "patternProperties with more than \(Self.mostPatterns) patterns that overlap")
  }
}
