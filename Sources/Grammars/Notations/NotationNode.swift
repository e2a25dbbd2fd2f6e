/// The right-hand side of a rule in a notation of grammars.
indirect enum NotationNode {
  /// A regular expression with its size.
  case text(TextExpression, size: Int)
  /// Another rule, with the position of its name for errors.
  case reference(String, position: Int)
  case sequence([NotationNode])
  case alternatives([NotationNode])
  case repetition(NotationNode, minimum: Int, maximum: Int?)

  /// A regular expression.
  static func text(_ text: TextExpression) -> NotationNode { .text(text, size: text.size) }
}

/// Turns named rules into a grammar. What is regular becomes a terminal, so that the parser has little to do.
struct NotationGrammarBuilder {
  private static let mostSymbols = 50_000
  /// How large a terminal may become when rules and neighbours are put into each other. One that is written as such may be larger.
  private static let largestTerminal = 2_000
  private static let deepestTerminal = 50

  /// A regular part of the grammar.
  private struct Regular {
    var text: TextExpression
    var size: Int
  }

  /// The rules by name.
  var rules: [String: NotationNode] = [:]
  /// What may stand after each terminal of a rule.
  var ignored: TextExpression?
  private let scanner: ScalarScanner
  private let budget: CompilationBudget
  private var grammar = Grammar()
  private var symbols: [String: Grammar.Symbol] = [:]
  private var waiting: [String] = []
  /// For rules that were read: what each is, if it is regular.
  private var regularRules: [String: Regular?] = [:]
  /// The elements of regular rules that were needed.
  private var elements: [String: Grammar.Element?] = [:]

  /// - Parameter scanner: of the notation's text, for the positions of errors
  init(_ scanner: ScalarScanner, _ budget: CompilationBudget) {
    self.scanner = scanner
    self.budget = budget
  }

  /// The grammar of the texts of a rule.
  mutating func build(from start: String) throws(NotationError) -> Grammar {
    let root = try addSymbol("start")
    grammar.start = root
    let first = try element(.reference(start, position: 0))
    if let first { grammar.addRule(root, [first]) }
    while let name = waiting.popLast() { try addRules(rules[name]!, to: symbols[name]!) }
    guard let result = grammar.reduced() else { throw scanner.error("the grammar has no text at all", at: 0) }
    return result
  }

  private func spend(_ units: Int) throws(NotationError) {
    do throws(CompilationBudget.Exceeded) { try budget.spend(units) } catch {
      throw scanner.error(error.description, at: 0)
    }
  }

  private mutating func addSymbol(_ name: String) throws(NotationError) -> Grammar.Symbol {
    guard grammar.names.count < Self.mostSymbols else {
      throw scanner.error("the grammar needs more than \(Self.mostSymbols) symbols", at: 0)
    }
    return grammar.addSymbol(name)
  }

  private mutating func addRules(_ node: NotationNode, to symbol: Grammar.Symbol) throws(NotationError) {
    if case .alternatives(let parts) = node, try regularPart(node) == nil {
      for part in parts { try addRules(part, to: symbol) }
    } else if case .sequence(let parts) = node, try regularPart(node) == nil {
      var elements: [Grammar.Element] = []
      for part in try merged(parts) {
        if case .text(.empty, _) = part { continue }
        guard let next = try element(part) else { return }
        elements.append(next)
      }
      grammar.addRule(symbol, elements)
    } else if let element = try element(node) {
      grammar.addRule(symbol, [element])
    }
  }

  /// Neighbours that are regular as one, up to the largest size; with text to ignore they stay apart.
  private mutating func merged(_ parts: [NotationNode]) throws(NotationError) -> [NotationNode] {
    guard ignored == nil else { return parts }
    var result: [NotationNode] = []
    var run: [(part: NotationNode, regular: Regular)] = []
    var size = 0
    func endRun(in builder: NotationGrammarBuilder) throws(NotationError) {
      if run.count == 1 {
        result.append(run[0].part)
      } else if !run.isEmpty {
        try builder.spend(size)
        result.append(.text(.joined(run.map(\.regular.text)), size: size))
      }
      run = []
      size = 0
    }
    for part in parts {
      guard let next = try regularPart(part), next.size <= Self.largestTerminal else {
        try endRun(in: self)
        result.append(part)
        continue
      }
      if size + next.size > Self.largestTerminal { try endRun(in: self) }
      run.append((part, next))
      size += next.size
    }
    try endRun(in: self)
    return result
  }

  /// The terminal of a regular expression that is followed by what is ignored.
  private mutating func terminal(of text: TextExpression) throws(NotationError) -> Grammar.Element {
    do throws(CompilationBudget.Exceeded) {
      return .terminal(grammar.terminal(try text.bytes(written: .raw, budget)))
    } catch { throw scanner.error(error.description, at: 0) }
  }

  /// The element of a node; `nil` for one without texts.
  private mutating func element(_ node: NotationNode) throws(NotationError) -> Grammar.Element? {
    if case .reference(let name, _) = node, let known = elements[name] { return known }
    if let regular = try regularPart(node) {
      var element: Grammar.Element?
      if regular.text != .nothing {
        element = try terminal(of: regular.text == .empty ? .empty : .joined([regular.text, ignored ?? .empty]))
      }
      if case .reference(let name, _) = node { elements[name] = .some(element) }
      return element
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
  private mutating func regularPart(_ node: NotationNode) throws(NotationError) -> Regular? {
    if case .text(let text, let size) = node { return Regular(text: text, size: size) }
    return ignored == nil ? try regularPart(node, depth: 0, limit: Self.largestTerminal) : nil
  }

  /// The same at a depth below the node that is asked for, with a limit of the size.
  private mutating func regularPart(_ node: NotationNode, depth: Int, limit: Int) throws(NotationError) -> Regular? {
    try spend(1)
    guard depth <= Self.deepestTerminal, limit > 0 else { return nil }
    var size = 1
    func all(
      _ parts: [NotationNode], in builder: inout NotationGrammarBuilder
    ) throws(NotationError) -> [TextExpression]? {
      var result: [TextExpression] = []
      for part in parts {
        guard let next = try builder.regularPart(part, depth: depth + 1, limit: limit - size) else { return nil }
        size += next.size
        result.append(next.text)
      }
      try builder.spend(size)
      return result
    }
    switch node {
    case .text(let text, size: let inner):
      return inner <= limit ? Regular(text: text, size: inner) : nil
    case .sequence(let parts):
      return try all(parts, in: &self).map { Regular(text: .joined($0), size: size) }
    case .alternatives(let parts):
      return try all(parts, in: &self).map { Regular(text: .either($0), size: size) }
    case .repetition(let part, let minimum, let maximum):
      return try regularPart(part, depth: depth + 1, limit: limit - 1).map {
        Regular(text: $0.text.repeated(minimum, maximum), size: $0.size + 1)
      }
    case .reference(let name, _):
      if regularRules[name] == nil, let rule = rules[name] {
        // While the rule is read it counts as not regular, which it is if it contains itself.
        regularRules[name] = .some(nil)
        regularRules[name] = .some(try regularPart(rule, depth: depth + 1, limit: Self.largestTerminal))
      }
      guard case .some(.some(let known)) = regularRules[name], known.size <= limit else { return nil }
      return known
    }
  }
}
