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

  /// Lets a symbol derive the arrays of which no two items are equal. What was written is remembered as a set, so that this is
  /// possible only for items of a few values.
  mutating func addUniqueItems(
    _ demands: SchemaConjunction.ArrayDemands, _ path: String, to symbol: Grammar.Symbol
  ) throws(SchemaError) {
    let refusal = SchemaError(path, "uniqueItems is not supported")
    guard demands.contains.isEmpty else { throw refusal }
    let prefix = demands.groups.map(\.prefix.count).max() ?? 0
    // The values of the items with a schema of their own, and of all others.
    var bits: [String: UInt64] = [:]
    var choices: [[(bit: UInt64, value: Grammar.Terminal)]] = []
    for index in 0...prefix {
      let literals = demands.groups.compactMap { index < $0.prefix.count ? $0.prefix[index] : $0.rest }
      guard prefix < Self.mostValues, let values = try finiteValues(of: literals) else { throw refusal }
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
      choices.append(choice)
    }
    var known: [UInt64: (item: Grammar.Symbol, after: Grammar.Symbol)] = [:]
    var waiting: [UInt64] = []
    func symbols(
      _ set: UInt64, in builder: inout SchemaGrammarBuilder
    ) throws(SchemaError) -> (item: Grammar.Symbol, after: Grammar.Symbol) {
      if let symbols = known[set] { return symbols }
      guard known.count < Self.mostSets else { throw refusal }
      let symbols = (try builder.addSymbol("different item"), try builder.addSymbol("after a different item"))
      known[set] = symbols
      waiting.append(set)
      return symbols
    }
    if demands.count.minimum == 0 { try addRule(symbol, .expression(notation.emptyArray)) }
    try addRule(symbol, .expression(notation.openArray), .symbol(try symbols(0, in: &self).item))
    while let set = waiting.popLast() {
      let from = known[set]!
      let count = set.nonzeroBitCount
      if demands.count.contains(count) { try addRule(from.after, .expression(notation.closeArray)) }
      if let maximum = demands.count.maximum, count >= maximum { continue }
      if count > 0 { try addRule(from.after, .expression(notation.comma), .symbol(from.item)) }
      for (bit, value) in choices[min(count, prefix)] where set & bit == 0 {
        try addRule(from.item, .terminal(value), .symbol(try symbols(set | bit, in: &self).after))
      }
    }
  }
}
