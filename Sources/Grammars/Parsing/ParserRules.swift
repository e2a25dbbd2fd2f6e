/// A grammar's rules in flat arrays, without what is of no use.
///
/// A *place* is a position in a rule's right-hand side. The places of a rule follow one another; the last one is its end.
struct ParserRules {
  /// What stands at each place: a symbol, `~terminal` for a terminal, or `ParserRules.end`.
  private(set) var elements: [Int32] = []
  /// For each symbol the first places of its rules.
  private(set) var firstPlaces: [[Int32]] = []
  /// Whether the empty text is derived by what stands at each place.
  private(set) var isNullable: [Bool] = []
  /// The first place of the rule whose whole right-hand side is the start symbol.
  private(set) var startPlace: Int32 = 0
  /// The node of each terminal's expression.
  let terminals: [ExpressionTable.Node]

  static let end = Int32.max

  /// About how many bytes the rules take.
  var memory: Int { 5 * elements.count + 64 * firstPlaces.count + 4 * terminals.count }

  init(_ grammar: Grammar, _ expressions: inout ExpressionTable, limits: GrammarLimits) throws(GrammarError) {
    guard grammar.names.indices.contains(grammar.start.index) else { throw .noStart }
    var size = 0
    for rules in grammar.rules {
      for rule in rules { size += rule.count + 1 }
    }
    if size > limits.elements { throw .tooLarge(what: "elements in rules", limit: limits.elements) }
    var terminals: [ExpressionTable.Node] = []
    for expression in grammar.terminals { terminals.append(try expressions.node(expression, depth: limits.depth)) }
    var rules = try ParserRules.joiningTerminals(grammar, &terminals, &expressions)

    var isLive: [Bool] = []
    for node in terminals { isLive.append(try expressions.isLive(node)) }
    let productive = ParserRules.closure(rules) { $0 < 0 && isLive[Int(~$0)] }
    guard productive[grammar.start.index] else {
      throw .derivesNothing(symbol: grammar.names[grammar.start.index])
    }
    let nullable = ParserRules.closure(rules) { $0 < 0 && expressions.isNullable(terminals[Int(~$0)]) }
    for symbol in rules.indices {
      rules[symbol].removeAll { rule in
        rule == [Int32(symbol)] || !rule.allSatisfy { $0 < 0 ? isLive[Int(~$0)] : productive[Int($0)] }
      }
    }

    // Symbols are numbered anew as they are reached from the start.
    var numbers = [Int32](repeating: -1, count: rules.count)
    var reached = [grammar.start.index]
    numbers[grammar.start.index] = 0
    var position = 0
    while position < reached.count {
      let symbol = reached[position]
      position += 1
      var places: [Int32] = []
      for rule in rules[symbol] {
        places.append(Int32(elements.count))
        for element in rule {
          if element < 0 {
            elements.append(element)
            isNullable.append(expressions.isNullable(terminals[Int(~element)]))
            continue
          }
          if numbers[Int(element)] < 0 {
            numbers[Int(element)] = Int32(reached.count)
            reached.append(Int(element))
          }
          elements.append(numbers[Int(element)])
          isNullable.append(nullable[Int(element)])
        }
        elements.append(Self.end)
        isNullable.append(true)
      }
      firstPlaces.append(places)
    }
    startPlace = Int32(elements.count)
    elements += [0, Self.end]
    isNullable += [nullable[grammar.start.index], true]
    self.terminals = terminals
  }

  /// The rules as numbers, `~terminal` for a terminal. Rules of one symbol that are each one terminal become one terminal.
  private static func joiningTerminals(
    _ grammar: Grammar, _ terminals: inout [ExpressionTable.Node], _ expressions: inout ExpressionTable
  ) throws(GrammarError) -> [[[Int32]]] {
    var known: [ExpressionTable.Node: Int32] = [:]
    for (index, node) in terminals.enumerated() { known[node] = Int32(index) }
    var result: [[[Int32]]] = []
    for rules in grammar.rules {
      var flat: [[Int32]] = []
      var single: [ExpressionTable.Node] = []
      for rule in rules {
        try expressions.spend(rule.count + 1)
        if rule.count == 1, case .terminal(let terminal) = rule[0] {
          single.append(terminals[terminal.index])
          continue
        }
        flat.append(
          rule.map {
            switch $0 {
            case .symbol(let symbol): Int32(symbol.index)
            case .terminal(let terminal): ~known[terminals[terminal.index]]!
            }
          })
      }
      if !single.isEmpty {
        let node = try expressions.alternatives(expressions.sharingBeginnings(single))
        if known[node] == nil {
          known[node] = Int32(terminals.count)
          terminals.append(node)
        }
        flat.append([~known[node]!])
      }
      var seen: Set<[Int32]> = []
      result.append(flat.filter { seen.insert($0).inserted })
    }
    return result
  }

  /// The symbols with a rule of which every element has a property: terminals that are said to have it, and such symbols.
  static func closure(_ rules: [[[Int32]]], _ terminalHasIt: (Int32) -> Bool) -> [Bool] {
    var result = [Bool](repeating: false, count: rules.count)
    var users = [[Int]](repeating: [], count: rules.count)
    var missing: [Int] = []
    var owners: [Int] = []
    var ready: [Int] = []
    for (symbol, list) in rules.enumerated() {
      for rule in list where rule.allSatisfy({ $0 >= 0 || terminalHasIt($0) }) {
        let symbols = rule.filter { $0 >= 0 }
        for element in symbols { users[Int(element)].append(owners.count) }
        owners.append(symbol)
        missing.append(symbols.count)
        if symbols.isEmpty { ready.append(symbol) }
      }
    }
    while let symbol = ready.popLast() {
      if result[symbol] { continue }
      result[symbol] = true
      for user in users[symbol] {
        missing[user] -= 1
        if missing[user] == 0 { ready.append(owners[user]) }
      }
    }
    return result
  }
}
