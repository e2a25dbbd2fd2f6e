/// Parses tokens into statements and expressions by jinja2's grammar.
struct Parser {
  var tokens: [Token]
  var position = 0
  var depth = 0
  /// How many loops surround the current statement: `loops` within the current macro, `outerLoops` in all.
  var loops = 0
  var outerLoops = 0
  private var ids: [String: Int] = [:]
  private(set) var names: [String] = []
  /// Errors for unknown filters and tests that have been parsed. A conditional around them removes them; see
  /// `bodyOfOwnFrame`.
  var unknown: [TemplateError] = []
  /// Which of `caller`, `kwargs` and `varargs` the body of the current macro reads.
  var specialNames: Set<Int> = []

  static func parse(_ source: String) throws(TemplateError) -> Program {
    guard source.utf8.count <= TemplateLimits.sourceBytes else {
      throw TemplateError(kind: .limit, line: nil, reason: "the template has \(source.utf8.count) bytes")
    }
    var parser = Parser(tokens: try Lexer.tokens(of: source))
    for name in Program.reservedNames { _ = parser.id(of: name) }
    let body = try parser.bodyOfOwnFrame { parser throws(TemplateError) in try parser.statements(until: []) }
    return Program(body: body, names: parser.names)
  }

  private init(tokens: [Token]) { self.tokens = tokens }

  // MARK: Tokens

  var current: Token { tokens[position] }

  func fail(_ reason: String, line: Int? = nil) -> TemplateError {
    TemplateError(kind: .syntax, line: line ?? current.line, reason: reason)
  }

  mutating func advance() { if position + 1 < tokens.count { position += 1 } }

  func isName(_ name: String) -> Bool { isName(name, at: position) }

  func isName(_ name: String, at index: Int) -> Bool {
    guard index < tokens.count, case .name(let found) = tokens[index].kind else { return false }
    return found == name
  }

  func isSymbol(_ symbol: Token.Symbol) -> Bool { current.kind == .symbol(symbol) }

  mutating func skip(_ symbol: Token.Symbol) -> Bool {
    guard isSymbol(symbol) else { return false }
    advance()
    return true
  }

  mutating func skipName(_ name: String) -> Bool {
    guard isName(name) else { return false }
    advance()
    return true
  }

  mutating func expect(_ symbol: Token.Symbol) throws(TemplateError) {
    guard skip(symbol) else {
      throw fail("expected token '\(symbol.rawValue)', got '\(current.described)'")
    }
  }

  mutating func expectName() throws(TemplateError) -> String {
    guard case .name(let name) = current.kind else { throw fail("expected a name, got '\(current.described)'") }
    advance()
    return name
  }

  mutating func expectBlockEnd() throws(TemplateError) {
    guard current.kind == .blockEnd else {
      throw fail("expected token 'end of statement block', got '\(current.described)'")
    }
    advance()
  }

  mutating func id(of name: String) -> Int {
    if let id = ids[name] { return id }
    ids[name] = names.count
    names.append(name)
    return names.count - 1
  }

  // MARK: Depth and frames

  /// Runs `parse` one level deeper. The limit keeps the parser, and everything that visits its tree, within the stack.
  mutating func nested<Result>(
    _ parse: (inout Parser) throws(TemplateError) -> Result
  ) throws(TemplateError) -> Result {
    depth += 1
    guard depth <= TemplateLimits.parseDepth else {
      throw TemplateError(kind: .limit, line: current.line, reason: "the template nests too deeply")
    }
    let result = try parse(&self)
    depth -= 1
    return result
  }

  /// Parses a body that jinja2 compiles to a frame of its own, and throws the first unknown filter or test in it. Those
  /// directly under a conditional are no errors until they are evaluated, because a template may test whether a filter
  /// exists before it uses it.
  mutating func bodyOfOwnFrame<Result>(
    _ parse: (inout Parser) throws(TemplateError) -> Result
  ) throws(TemplateError) -> Result {
    let before = unknown.count
    let result = try parse(&self)
    if unknown.count > before { throw unknown[before] }
    return result
  }

  /// Parses what is under a conditional: unknown filters and tests in it are no errors.
  mutating func conditionally<Result>(
    _ parse: (inout Parser) throws(TemplateError) -> Result
  ) throws(TemplateError) -> Result {
    let before = unknown.count
    let result = try parse(&self)
    unknown.removeLast(unknown.count - before)
    return result
  }

  func node(_ kind: Expression.Kind, line: Int, over parts: Expression?...) throws(TemplateError) -> Expression {
    try node(kind, line: line, depth: parts.map { $0?.depth ?? 0 }.max() ?? 0)
  }

  func node(_ kind: Expression.Kind, line: Int, depth: Int) throws(TemplateError) -> Expression {
    guard depth < 2 * TemplateLimits.parseDepth else {
      throw TemplateError(kind: .limit, line: line, reason: "an expression nests too deeply")
    }
    return Expression(kind, line: line, depth: depth + 1)
  }
}
