import Formats

extension SchemaGrammarBuilder {
  /// How many sets of values that were written an array of different values may need.
  private static let mostSets = 2_000
  /// How many different values there may be, one bit of a set for each.
  private static let mostValues = 64

  /// The values that satisfy all literals, if these list them; `nil` for others.
  func finiteValues(of literals: [SchemaLiteral]) throws(SchemaError) -> [JSONValue]? {
    var result: [JSONValue] = []
    for conjunction in try expander.alternatives(literals) {
      if let list = conjunction.values {
        var validator = SchemaValidator(expander)
        for value in expander.keywords.values[list] where try validator.accepts(value, all: conjunction.literals) {
          result.append(value)
        }
      } else if conjunction.kinds.isSubset(of: [.null, .boolean]) {
        let words: [(ValueKinds, JSONValue)] = [(.null, .null), (.yes, true), (.no, false)]
        result += words.filter { conjunction.kinds.contains($0.0) }.map(\.1)
      } else {
        return nil
      }
    }
    return result
  }

  /// What may be written at one position of an array of different items.
  private enum UniqueItem {
    /// One of a few values, each with its bit.
    case values([(bit: UInt64, value: Grammar.Terminal)])
    /// What satisfies a schema that no value of another position does.
    case other(Grammar.Symbol)
  }

  /// Between two items of an array of different items.
  private struct UniqueState: Hashable {
    /// The values that were written.
    var set: UInt64 = 0
    var count = 0
  }

  /// Lets a symbol derive the arrays of which no two items are equal. What was written is remembered as a set, so that this is
  /// possible only for items of a few values, and for those that cannot equal an item of another position.
  mutating func addUniqueItems(
    _ demands: SchemaConjunction.ArrayDemands, _ path: String, to symbol: Grammar.Symbol
  ) throws(SchemaError) {
    guard demands.contains.isEmpty else { throw SchemaError(path, Self.uniqueRefusal) }
    let range = demands.count.range
    let items = try uniqueItems(demands, path)
    var known: [UniqueState: (item: Grammar.Symbol, after: Grammar.Symbol)] = [:]
    var waiting: [UniqueState] = []
    func symbols(
      _ state: UniqueState, in builder: inout SchemaGrammarBuilder
    ) throws(SchemaError) -> (item: Grammar.Symbol, after: Grammar.Symbol) {
      if let symbols = known[state] { return symbols }
      guard known.count < Self.mostSets else { throw SchemaError(path, Self.uniqueRefusal) }
      let symbols = (try builder.addSymbol("different item"), try builder.addSymbol("after a different item"))
      known[state] = symbols
      waiting.append(state)
      return symbols
    }
    if range.minimum == 0 { try addRule(symbol, .expression(notation.emptyArray)) }
    try addRule(symbol, .expression(notation.openArray), .symbol(try symbols(UniqueState(), in: &self).item))
    while let state = waiting.popLast() {
      let from = known[state]!
      if range.contains(state.count) { try addRule(from.after, .expression(notation.closeArray)) }
      if let maximum = range.maximum, state.count >= maximum { continue }
      if state.count > 0 { try addRule(from.after, .expression(notation.comma), .symbol(from.item)) }
      switch items[min(state.count, items.count - 1)] {
      case .values(let values):
        for (bit, value) in values where state.set & bit == 0 {
          let next = UniqueState(set: state.set | bit, count: state.count + 1)
          try addRule(from.item, .terminal(value), .symbol(try symbols(next, in: &self).after))
        }
      case .other(let value):
        let next = UniqueState(set: state.set, count: state.count + 1)
        try addRule(from.item, .symbol(value), .symbol(try symbols(next, in: &self).after))
      }
    }
  }

  private static let uniqueRefusal = "uniqueItems is not supported"

  /// The items with a schema of their own, and what all others are.
  private mutating func uniqueItems(
    _ demands: SchemaConjunction.ArrayDemands, _ path: String
  ) throws(SchemaError) -> [UniqueItem] {
    let refusal = SchemaError(path, Self.uniqueRefusal)
    let prefix = demands.groups.map(\.prefix.count).max() ?? 0
    let positions = min(prefix + 1, demands.count.range.maximum ?? .max)
    guard positions <= Self.mostValues else { throw refusal }
    let schemas = (0..<positions).map { index in
      demands.groups.compactMap { index < $0.prefix.count ? $0.prefix[index] : $0.rest }
    }
    var bits: [String: UInt64] = [:]
    var items: [UniqueItem] = []
    for (index, literals) in schemas.enumerated() {
      guard let values = try finiteValues(of: literals) else {
        // The last of these schemas may be that of several items.
        guard index < prefix || demands.count.range.maximum == positions else { throw refusal }
        for other in schemas.indices where other != index {
          guard try expander.isImpossible(literals + schemas[other]) else { throw refusal }
        }
        items.append(.other(try symbol(for: literals)))
        continue
      }
      var choice: [(bit: UInt64, value: Grammar.Terminal)] = []
      var seen: Set<String> = []
      for value in values {
        let text = value.canonical
        try budget.spend(1 + text.utf8.count, at: path)
        guard seen.insert(text).inserted else { continue }
        guard bits[text] != nil || bits.count < Self.mostValues else { throw refusal }
        let bit = bits[text] ?? 1 << UInt64(bits.count)
        bits[text] = bit
        choice.append((bit, try terminal(notation.literal(value))))
      }
      items.append(.values(choice))
    }
    return items
  }
}
