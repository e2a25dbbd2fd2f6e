/// The right-hand side of a rule in a notation of grammars.
indirect enum NotationNode {
  case text(TextExpression)
  /// Another rule, with the position of its name for errors.
  case reference(String, position: Int)
  case sequence([NotationNode])
  case alternatives([NotationNode])
  case repetition(NotationNode, minimum: Int, maximum: Int?)
}

/// Turns named rules into a grammar. What is regular becomes a terminal, so that the parser has little to do.
struct NotationGrammarBuilder {
  private static let mostSymbols = 50_000
  /// How many nodes a terminal may have when rules are put into each other.
  private static let largestTerminal = 2_000
  private static let deepestTerminal = 50

  /// The rules by name.
  var rules: [String: NotationNode] = [:]
  /// What may stand after each terminal of a rule, and before the first; nothing else than text.
  var ignored: TextExpression?
  private let scanner: ScalarScanner
  private var grammar = Grammar()
  private var symbols: [String: Grammar.Symbol] = [:]
  private var waiting: [String] = []
  private var terminals: [String: TextExpression?] = [:]

  /// - Parameter scanner: of the notation's text, for the positions of errors
  init(_ scanner: ScalarScanner) { self.scanner = scanner }

  /// The grammar of the texts of a rule.
  mutating func build(from start: String) throws(NotationError) -> Grammar {
    let root = try addSymbol("start")
    grammar.start = root
    let first = try element(.reference(start, position: 0))
    let before = ignored.map { [Grammar.Element.terminal(grammar.terminal($0.bytes(written: .raw)))] } ?? []
    if let first { grammar.addRule(root, before + [first]) }
    while let name = waiting.popLast() { try addRules(rules[name]!, to: symbols[name]!) }
    guard let result = grammar.reduced() else { throw scanner.error("the grammar has no text at all", at: 0) }
    return result
  }

  private mutating func addSymbol(_ name: String) throws(NotationError) -> Grammar.Symbol {
    guard grammar.names.count < Self.mostSymbols else {
      throw scanner.error("the grammar needs more than \(Self.mostSymbols) symbols", at: 0)
    }
    return grammar.addSymbol(name)
  }

  private mutating func addRules(_ node: NotationNode, to symbol: Grammar.Symbol) throws(NotationError) {
    if case .alternatives(let parts) = node, terminal(node) == nil {
      for part in parts { try addRules(part, to: symbol) }
    } else if case .sequence(let parts) = node, terminal(node) == nil {
      var elements: [Grammar.Element] = []
      for part in merged(parts) {
        if case .text(.empty) = part { continue }
        guard let next = try element(part) else { return }
        elements.append(next)
      }
      grammar.addRule(symbol, elements)
    } else if let element = try element(node) {
      grammar.addRule(symbol, [element])
    }
  }

  /// Neighbours that are regular as one; with text to ignore they stay apart.
  private mutating func merged(_ parts: [NotationNode]) -> [NotationNode] {
    guard ignored == nil else { return parts }
    var result: [NotationNode] = []
    var run: [TextExpression] = []
    for part in parts {
      if let text = terminal(part) {
        run.append(text)
      } else {
        if !run.isEmpty { result.append(.text(.joined(run))) }
        run = []
        result.append(part)
      }
    }
    return run.isEmpty ? result : result + [.text(.joined(run))]
  }

  /// The element of a node; `nil` for one without texts.
  private mutating func element(_ node: NotationNode) throws(NotationError) -> Grammar.Element? {
    if let text = terminal(node) {
      if text == .nothing { return nil }
      let followed = text == .empty ? text : .joined([text, ignored ?? .empty])
      return .terminal(grammar.terminal(followed.bytes(written: .raw)))
    }
    switch node {
    case .text: return nil
    case .reference(let name, let position):
      if let symbol = symbols[name] { return .symbol(symbol) }
      guard rules[name] != nil else { throw scanner.error("there is no rule \"\(name)\"", at: position) }
      let symbol = try addSymbol(name)
      symbols[name] = symbol
      waiting.append(name)
      return .symbol(symbol)
    case .sequence, .alternatives:
      let symbol = try addSymbol("group")
      try addRules(node, to: symbol)
      return .symbol(symbol)
    case .repetition(let part, let minimum, let maximum):
      return .symbol(try repetition(part, minimum, maximum))
    }
  }

  private mutating func repetition(
    _ part: NotationNode, _ minimum: Int, _ maximum: Int?
  ) throws(NotationError) -> Grammar.Symbol {
    let element = try element(part)
    var rest = try addSymbol("repetition")
    grammar.addRule(rest, [])
    // From the last repetition to the first: what may follow each.
    guard let element else {
      guard minimum > 0 else { return rest }
      return try addSymbol("repetition")
    }
    if let maximum {
      for _ in minimum..<maximum {
        let next = try addSymbol("repetition")
        grammar.addRule(next, [])
        grammar.addRule(next, [element, .symbol(rest)])
        rest = next
      }
    } else {
      grammar.addRule(rest, [element, .symbol(rest)])
    }
    for _ in 0..<minimum {
      let next = try addSymbol("repetition")
      grammar.addRule(next, [element, .symbol(rest)])
      rest = next
    }
    return rest
  }

  // MARK: terminals

  /// The node as one expression; `nil` if it is not regular, too large, or of several terminals between which text is
  /// ignored.
  private mutating func terminal(_ node: NotationNode) -> TextExpression? {
    if case .text(let text) = node { return text }
    guard ignored == nil else { return nil }
    var size = 0
    return expression(node, depth: 0, size: &size)
  }

  private mutating func expression(_ node: NotationNode, depth: Int, size: inout Int) -> TextExpression? {
    size += 1
    guard size <= Self.largestTerminal, depth <= Self.deepestTerminal else { return nil }
    func all(_ parts: [NotationNode], in builder: inout NotationGrammarBuilder, _ size: inout Int) -> [TextExpression]?
    {
      var result: [TextExpression] = []
      for part in parts {
        guard let text = builder.expression(part, depth: depth + 1, size: &size) else { return nil }
        result.append(text)
      }
      return result
    }
    switch node {
    case .text(let text): return text
    case .sequence(let parts): return all(parts, in: &self, &size).map { .joined($0) }
    case .alternatives(let parts): return all(parts, in: &self, &size).map { .either($0) }
    case .repetition(let part, let minimum, let maximum):
      return expression(part, depth: depth + 1, size: &size)?.repeated(minimum, maximum)
    case .reference(let name, _):
      if let known = terminals[name] { return known }
      guard let rule = rules[name] else { return nil }
      // While the rule is read it counts as not regular, which it is if it contains itself.
      terminals[name] = .some(nil)
      var inner = 0
      let result = expression(rule, depth: depth + 1, size: &inner)
      terminals[name] = .some(result)
      size += inner
      return size <= Self.largestTerminal ? result : nil
    }
  }
}
