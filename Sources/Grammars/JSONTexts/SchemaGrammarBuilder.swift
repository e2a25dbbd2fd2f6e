import Formats

/// Builds a grammar with a symbol for each set of subschemas that some value has to satisfy together.
struct SchemaGrammarBuilder {
  /// How many symbols a grammar may have.
  private static let mostSymbols = 100_000

  let expander: SchemaExpander
  let budget: CompilationBudget
  let notation: JSONNotation
  private(set) var grammar = Grammar()
  private var symbols: [[SchemaLiteral]: Grammar.Symbol] = [:]
  private var waiting: [(literals: [SchemaLiteral], symbol: Grammar.Symbol)] = []
  private var anyArray: Grammar.Symbol?
  private var anyObject: Grammar.Symbol?

  init(_ expander: SchemaExpander, whiteSpace: JSONWhiteSpace) {
    self.expander = expander
    budget = expander.budget
    notation = JSONNotation(whiteSpace)
  }

  /// The grammar of the values that satisfy a subschema.
  mutating func build(_ literal: SchemaLiteral) throws(SchemaError) -> Grammar {
    grammar.start = try symbol(for: [literal])
    while let next = waiting.popLast() { try addRules(of: next.literals, to: next.symbol) }
    return grammar
  }

  /// The symbol of what satisfies all literals.
  mutating func symbol(for literals: [SchemaLiteral]) throws(SchemaError) -> Grammar.Symbol {
    let key = try simplified(literals)
    if let known = symbols[key] { return known }
    try budget.spend(key.count, at: path(of: key))
    let name =
      key.isEmpty
      ? "value"
      : key.prefix(4).map { ($0.isPositive ? "" : "not ") + expander.document[$0].path }.joined(separator: " and ")
    let symbol = try addSymbol(name)
    symbols[key] = symbol
    waiting.append((key, symbol))
    return symbol
  }

  /// A new symbol.
  mutating func addSymbol(_ name: String) throws(SchemaError) -> Grammar.Symbol {
    guard grammar.names.count < Self.mostSymbols else {
      throw SchemaError("#", "the schema needs a grammar of more than \(Self.mostSymbols) symbols")
    }
    try budget.spend(4 + name.utf8.count / 16, at: "#")
    return grammar.addSymbol(name)
  }

  /// Adds a rule of terminals and symbols.
  mutating func addRule(_ symbol: Grammar.Symbol, _ parts: SchemaGrammarPart...) throws(SchemaError) {
    // Without parts the symbol derives the empty string.
    var elements: [Grammar.Element] = []
    for part in parts {
      switch part {
      case .symbol(let symbol): elements.append(.symbol(symbol))
      case .expression(let expression): elements.append(.terminal(try terminal(expression)))
      case .terminal(let terminal): elements.append(.terminal(terminal))
      }
    }
    try budget.spend(1 + elements.count, at: "#")
    grammar.addRule(symbol, elements)
  }

  /// The terminal of an expression.
  mutating func terminal(_ expression: ByteExpression) throws(SchemaError) -> Grammar.Terminal {
    try budget.spend(expression.size, at: "#")
    return grammar.terminal(expression)
  }

  /// The path, for messages, of the first of some demands.
  func path(of literals: some Sequence<SchemaLiteral>) -> String {
    literals.min().map { expander.document[$0].path } ?? "#"
  }

  /// The same demand with schemas that only refer to others replaced by those.
  private func simplified(_ literals: [SchemaLiteral]) throws(SchemaError) -> [SchemaLiteral] {
    var result: Set<SchemaLiteral> = []
    var seen: Set<SchemaLiteral> = []
    var waiting = literals
    while let literal = waiting.popLast() {
      guard seen.insert(literal).inserted else { continue }
      try budget.spend(1, at: expander.document[literal].path)
      let assertions = try expander.assertions(of: literal)
      if assertions.isEmpty {
        if literal.isPositive { continue }
        return [SchemaDocument.never]
      }
      guard assertions.count == 1 else {
        result.insert(literal)
        continue
      }
      switch assertions[0].assertion {
      case .reference(let target): waiting.append(literal.isPositive ? target : target.negated)
      case .allOf(let all) where literal.isPositive: waiting += all
      case .kinds([]): if literal.isPositive { return [SchemaDocument.never] }
      case .kinds(.all): if !literal.isPositive { return [SchemaDocument.never] }
      default: result.insert(literal)
      }
    }
    return result.sorted()
  }

  /// Whether it is plain that no value satisfies all literals.
  func isNever(_ literals: [SchemaLiteral]) throws(SchemaError) -> Bool {
    try simplified(literals) == [SchemaDocument.never]
  }

  private mutating func addRules(
    of literals: [SchemaLiteral], to symbol: Grammar.Symbol
  ) throws(SchemaError) {
    if literals.count == 1, literals[0].isPositive {
      let assertions = try expander.assertions(of: literals[0])
      if assertions.count == 1, case .anyOf(let alternatives) = assertions[0].assertion {
        for alternative in alternatives { try addRule(symbol, .symbol(try self.symbol(for: [alternative]))) }
        return
      }
    }
    for conjunction in try expander.alternatives(literals) { try addRules(of: conjunction, to: symbol) }
  }

  private mutating func addRules(
    of conjunction: SchemaConjunction, to symbol: Grammar.Symbol
  ) throws(SchemaError) {
    if let list = conjunction.values {
      var validator = SchemaValidator(expander)
      var scalars: [String] = []
      var chosen: [ByteExpression] = []
      for value in expander.keywords.values[list]
      where try validator.accepts(value, all: conjunction.literals) {
        try budget.spend(expander.keywords.size(of: value), at: path(of: conjunction.literals))
        if value.array == nil, value.object == nil {
          scalars.append(notation.scalar(value))
        } else {
          chosen.append(notation.literal(value))
        }
      }
      if !scalars.isEmpty { chosen.append(try bytes(of: .any(of: scalars), .raw)) }
      if !chosen.isEmpty { try addRule(symbol, .expression(chosen.count == 1 ? chosen[0] : .alternatives(chosen))) }
      return
    }
    let kinds = conjunction.kinds
    for refusal in conjunction.refusals where !refusal.kinds.isDisjoint(with: kinds) { throw refusal.error }
    let words: [(ValueKinds, String)] = [(.null, "null"), (.yes, "true"), (.no, "false")]
    let literals = words.filter { kinds.contains($0.0) }.map { ByteExpression.literal($0.1) }
    if !literals.isEmpty {
      try addRule(symbol, .expression(literals.count == 1 ? literals[0] : .alternatives(literals)))
    }
    if !kinds.isDisjoint(with: .number) { try addNumber(conjunction, to: symbol) }
    if kinds.contains(.string) {
      let text = conjunction.string.expression
      if try hasText(text, conjunction) { try addRule(symbol, .expression(try string(text))) }
    }
    if kinds.contains(.array) {
      if conjunction.array == SchemaConjunction.ArrayDemands() {
        try addRule(symbol, .symbol(try unboundArray()))
      } else {
        try addArray(conjunction, to: symbol)
      }
    }
    if kinds.contains(.object) {
      if conjunction.object == SchemaConjunction.ObjectDemands() {
        try addRule(symbol, .symbol(try unboundObject()))
      } else {
        try addObject(conjunction, to: symbol)
      }
    }
  }

  /// Whether an expression has any text, which terminals must have.
  func hasText(_ text: TextExpression, _ conjunction: SchemaConjunction) throws(SchemaError) -> Bool {
    let path = path(of: conjunction.literals)
    let isEmpty = try budget.at(path) { (budget) throws(CompilationBudget.Exceeded) in try text.isEmpty(budget) }
    guard let isEmpty else {
      throw SchemaError(path, "the pattern, format and length of strings are too large to combine")
    }
    return !isEmpty
  }

  /// The bytes of every way to write the texts.
  func bytes(of text: TextExpression, _ spelling: TextSpelling) throws(SchemaError) -> ByteExpression {
    try budget.at("#") { (budget) throws(CompilationBudget.Exceeded) in try text.bytes(written: spelling, budget) }
  }

  /// A JSON string whose text is in the expression.
  func string(_ text: TextExpression) throws(SchemaError) -> ByteExpression {
    .sequence([.literal("\""), try bytes(of: text, .json), .literal("\"")])
  }

  // MARK: values without demands

  private mutating func unboundArray() throws(SchemaError) -> Grammar.Symbol {
    if let anyArray { return anyArray }
    let array = try addSymbol("array")
    anyArray = array
    let (value, rest) = (try symbol(for: []), try addSymbol("items"))
    try addRule(array, .expression(notation.emptyArray))
    try addRule(array, .expression(notation.openArray), .symbol(value), .symbol(rest))
    try addRule(rest, .expression(notation.comma), .symbol(value), .symbol(rest))
    try addRule(rest, .expression(notation.closeArray))
    return array
  }

  /// The symbol of any object.
  mutating func unboundObject() throws(SchemaError) -> Grammar.Symbol {
    if let anyObject { return anyObject }
    let object = try addSymbol("object")
    anyObject = object
    let (value, pair, rest) = (try symbol(for: []), try addSymbol("pair"), try addSymbol("pairs"))
    try addRule(object, .expression(notation.emptyObject))
    try addRule(object, .expression(notation.openObject), .symbol(pair))
    try addRule(
      pair, .expression(try string(.anything)), .expression(notation.colon), .symbol(value), .symbol(rest))
    try addRule(rest, .expression(notation.comma), .symbol(pair))
    try addRule(rest, .expression(notation.closeObject))
    return object
  }
}

/// A part of a rule.
enum SchemaGrammarPart {
  case symbol(Grammar.Symbol)
  case expression(ByteExpression)
  case terminal(Grammar.Terminal)
}

extension TextExpression {
  private static let mostStates = 4_000

  /// Whether no text is in the expression; `nil` if that takes too many states to tell.
  func isEmpty(_ budget: CompilationBudget) throws(CompilationBudget.Exceeded) -> Bool? {
    switch self {
    case .nothing: return true
    case .empty, .scalar: return false
    case .sequence(let parts), .alternatives(let parts):
      var answers: [Bool?] = []
      for part in parts { answers.append(try part.isEmpty(budget)) }
      if answers.contains(nil) { return nil }
      if case .sequence = self { return answers.contains(true) }
      return !answers.contains(false)
    case .repetition(let part, let minimum, _): return minimum == 0 ? false : try part.isEmpty(budget)
    case .intersection, .complement: return try TextExpressionAutomaton(self, budget).isEmpty(limit: Self.mostStates)
    }
  }
}
