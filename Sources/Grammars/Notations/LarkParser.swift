/// Parses grammars in Lark's notation, as llguidance reads it: rules `name: …`, of which `start` is the whole text, and terminals
/// `NAME: …`, which are regular.
///
/// What `%ignore` names may stand after each terminal of a rule, but not inside one. Every way to divide a text into terminals
/// counts. Priorities, templates and tokens of a model are refused.
public struct LarkParser {
  private static let longest = 1_000_000
  private static let deepest = 100
  private static let mostRepetitions = 10_000

  private var scanner: ScalarScanner
  private let budget: CompilationBudget
  private var depth = 0
  private var rules: [String: NotationNode] = [:]
  private var terminals = LarkTerminals()
  private var ignored: [NotationNode] = []

  /// Whether a grammar is in this notation and not in GBNF: no line begins as a rule of GBNF does.
  public static func isLark(_ text: String) -> Bool {
    !text.split(separator: "\n").contains { line in
      let rest = line.drop { $0.isWhitespace }.drop { $0.isLetter || $0.isNumber || $0 == "-" || $0 == "_" }
      return rest.drop { $0.isWhitespace }.hasPrefix("::=")
    }
  }

  /// The grammar of the texts of `start`.
  /// - Throws: `NotationError` with line and column
  public static func grammar(
    _ text: String, budget: CompilationBudget = CompilationBudget()
  ) throws(NotationError) -> Grammar {
    var parser = LarkParser(text, budget)
    try parser.readStatements()
    var builder = NotationGrammarBuilder(parser.scanner, budget)
    builder.rules = parser.rules
    guard builder.rules["start"] != nil else { throw parser.scanner.error("there is no rule \"start\"", at: 0) }
    for name in parser.terminals.names {
      builder.rules[name] = try parser.terminals.node(of: name, parser.scanner, budget)
    }
    if !parser.ignored.isEmpty {
      let parts = NotationNode.alternatives(parser.ignored)
      builder.ignored = try parser.terminals.expression(of: parts, parser.scanner, budget).text.repeated(0)
    }
    return try builder.build(from: "start")
  }

  /// The expressions of the terminals of a text that has nothing else.
  static func terminals(_ text: String) throws(NotationError) -> [String: TextExpression] {
    let budget = CompilationBudget()
    var parser = LarkParser(text, budget)
    try parser.readStatements()
    var result: [String: TextExpression] = [:]
    for name in parser.terminals.names {
      guard case .text(let text, _) = try parser.terminals.node(of: name, parser.scanner, budget) else { continue }
      result[name] = text
    }
    return result
  }

  private init(_ text: String, _ budget: CompilationBudget) {
    scanner = ScalarScanner(text)
    self.budget = budget
  }

  private func spend(_ units: Int) throws(NotationError) {
    do throws(CompilationBudget.Exceeded) { try budget.spend(units) } catch {
      throw scanner.error(error.description, at: 0)
    }
  }

  // MARK: statements

  private mutating func readStatements() throws(NotationError) {
    guard scanner.count <= Self.longest else {
      throw scanner.error("a grammar of more than \(Self.longest) characters")
    }
    skipSpace(andLines: true)
    while !scanner.isAtEnd {
      let start = scanner.position
      if scanner.skip("%") { try readDirective(from: start) } else { try readDefinition() }
      skipSpace(andLines: false)
      switch scanner.current {
      case nil, "\n": break
      case ")", "]": throw scanner.error("a closing bracket without an opening one")
      default: throw scanner.error("the end of the line is expected")
      }
      skipSpace(andLines: true)
    }
  }

  private mutating func readDefinition() throws(NotationError) {
    let start = scanner.position
    // These say how Lark builds its tree.
    while scanner.skip("?") || scanner.skip("!") {}
    guard let name = name() else { throw scanner.error("a rule \"name: …\" is expected", at: start) }
    switch scanner.current {
    case ".": throw scanner.error("priorities are not supported: every way to divide a text counts")
    case "{": throw scanner.error("templates are not supported; write a rule for each use")
    case "[": throw scanner.error("attributes of rules are not supported")
    default: break
    }
    skipSpace(andLines: false)
    guard scanner.skip(":") else { throw scanner.error("a colon is expected after the name \"\(name)\"") }
    let node = try alternatives()
    if Self.isTerminal(name) {
      guard terminals.define(name, node) else {
        throw scanner.error("a second terminal \"\(name)\"", at: start)
      }
    } else {
      guard rules.updateValue(node, forKey: name) == nil else {
        throw scanner.error("a second rule \"\(name)\"", at: start)
      }
    }
  }

  private mutating func readDirective(from start: Int) throws(NotationError) {
    let directive = name() ?? ""
    skipSpace(andLines: false)
    switch directive {
    case "ignore": ignored.append(try alternatives())
    case "import": try readImport(from: start)
    default: throw scanner.error("\"%\(directive)\" is not supported", at: start)
    }
  }

  private mutating func readImport(from start: Int) throws(NotationError) {
    guard name() == "common" else { throw scanner.error("only terminals of \"common\" can be imported", at: start) }
    if scanner.skip(".") {
      let imported = name() ?? ""
      skipSpace(andLines: false)
      var alias: String?
      if scanner.skip("->") {
        skipSpace(andLines: false)
        alias = name() ?? ""
      }
      return try define(imported, as: alias ?? imported, from: start)
    }
    skipSpace(andLines: false)
    guard scanner.skip("(") else { throw scanner.error("a terminal of \"common\" is expected") }
    repeat {
      skipSpace(andLines: true)
      let imported = name() ?? ""
      try define(imported, as: imported, from: start)
      skipSpace(andLines: true)
    } while scanner.skip(",")
    guard scanner.skip(")") else { throw scanner.error("a list of names that does not end", at: start) }
  }

  private mutating func define(_ imported: String, as name: String, from start: Int) throws(NotationError) {
    guard let text = LarkTerminals.common[imported] else {
      throw scanner.error("the terminal \"common.\(imported)\" is not supported", at: start)
    }
    guard Self.isTerminal(name) else { throw scanner.error("\"\(name)\" is no name of a terminal", at: start) }
    guard terminals.define(name, .text(text)) else {
      throw scanner.error("a second terminal \"\(name)\"", at: start)
    }
  }

  /// Skips spaces and comments, and inside of brackets also the ends of lines.
  private mutating func skipSpace(andLines: Bool) {
    while let scalar = scanner.current {
      if scalar == "#" || (scalar == "/" && scanner.peek(1) == "/") {
        _ = scanner.take { $0 != "\n" }
      } else if " \t\r".unicodeScalars.contains(scalar) || (scalar == "\n" && (andLines || depth > 0)) {
        scanner.position += 1
      } else {
        return
      }
    }
  }

  private mutating func name() -> String? {
    let name = scanner.take { "a"..."z" ~= $0 || "A"..."Z" ~= $0 || "0"..."9" ~= $0 || $0 == "_" }
    return name.isEmpty ? nil : name
  }

  private static func isTerminal(_ name: String) -> Bool { name.first { $0 != "_" }?.isUppercase == true }

  // MARK: what a rule consists of

  private mutating func alternatives() throws(NotationError) -> NotationNode {
    var parts = [try sequence()]
    while skipBar() { parts.append(try sequence()) }
    return parts.count == 1 ? parts[0] : .alternatives(parts)
  }

  /// Skips a vertical bar, which may begin one of the next lines.
  private mutating func skipBar() -> Bool {
    let before = scanner.position
    skipSpace(andLines: true)
    if scanner.skip("|") { return true }
    scanner.position = before
    return false
  }

  private mutating func sequence() throws(NotationError) -> NotationNode {
    var parts: [NotationNode] = []
    skipSpace(andLines: false)
    while let scalar = scanner.current, !"|)]\n".unicodeScalars.contains(scalar) {
      if scanner.skip("->") {
        // The name of a branch of Lark's tree.
        skipSpace(andLines: false)
        guard name() != nil else { throw scanner.error("a name is expected after \"->\"") }
        skipSpace(andLines: false)
        break
      }
      parts.append(try quantified())
      skipSpace(andLines: false)
    }
    return parts.count == 1 ? parts[0] : .sequence(parts)
  }

  private mutating func quantified() throws(NotationError) -> NotationNode {
    let node = try atom()
    skipSpace(andLines: false)
    let start = scanner.position
    if scanner.skip("*") { return .repetition(node, minimum: 0, maximum: nil) }
    if scanner.skip("+") { return .repetition(node, minimum: 1, maximum: nil) }
    if scanner.skip("?") { return .repetition(node, minimum: 0, maximum: 1) }
    if scanner.skip("~") {
      let minimum = try count()
      let maximum = scanner.skip("..") ? try count() : minimum
      guard minimum <= maximum else {
        throw scanner.error("a quantifier whose maximum is below its minimum", at: start)
      }
      return .repetition(node, minimum: minimum, maximum: maximum)
    }
    if scanner.skip("{") {
      guard let counts = try scanner.counts(limit: Self.mostRepetitions) else {
        throw scanner.error("a number of repetitions is expected in braces", at: start)
      }
      return .repetition(node, minimum: counts.minimum, maximum: counts.maximum)
    }
    return node
  }

  /// A number of repetitions, and the spaces around it.
  private mutating func count() throws(NotationError) -> Int {
    skipSpace(andLines: false)
    let start = scanner.position
    let digits = scanner.take { "0"..."9" ~= $0 }
    guard !digits.isEmpty else { throw scanner.error("a number of repetitions is expected") }
    guard let count = Int(digits), count <= Self.mostRepetitions else {
      throw scanner.error("a quantifier of more than \(Self.mostRepetitions) repetitions", at: start)
    }
    skipSpace(andLines: false)
    return count
  }

  private mutating func atom() throws(NotationError) -> NotationNode {
    let start = scanner.position
    switch scanner.current {
    case "\"":
      let text = try literal()
      let after = scanner.position
      skipSpace(andLines: false)
      guard scanner.skip("..") else {
        scanner.position = after
        return .text(try text.ignoresCase ? ignoringCase(text.scalars) : .literal(String(text.scalars)))
      }
      skipSpace(andLines: false)
      guard scanner.current == "\"" else { throw scanner.error("the range's last character is expected") }
      let last = try literal()
      guard let low = text.scalars.first, let high = last.scalars.first, text.scalars.count == 1,
        last.scalars.count == 1, !text.ignoresCase, !last.ignoresCase
      else { throw scanner.error("a range whose ends are not one character each", at: start) }
      guard low <= high else { throw scanner.error("a range whose ends are in the wrong order", at: start) }
      return .text(.range(low...high))
    case "/": return .text(try regularExpression())
    case "(", "[":
      let isOptional = scanner.next() == "["
      depth += 1
      guard depth <= Self.deepest else { throw scanner.error("groups more than \(Self.deepest) deep", at: start) }
      let inner = try alternatives()
      guard isOptional ? scanner.skip("]") : scanner.skip(")") else {
        throw scanner.error("a group that does not end", at: start)
      }
      depth -= 1
      return isOptional ? .repetition(inner, minimum: 0, maximum: 1) : inner
    case "<": throw scanner.error("tokens of the model such as <|…|> are not supported; write their text")
    case "&", "~": throw scanner.error("intersections and complements are not supported; write a regular expression")
    case "%": throw scanner.error("a grammar inside of a rule is not supported")
    default:
      guard let name = name() else {
        throw scanner.error("\"\(scanner.current.map(String.init) ?? "")\" is not part of a rule")
      }
      if scanner.current == "{" { throw scanner.error("templates are not supported; write a rule for each use") }
      return .reference(name, position: start)
    }
  }

  private mutating func literal() throws(NotationError) -> (scalars: String.UnicodeScalarView, ignoresCase: Bool) {
    let start = scanner.position
    scanner.position += 1
    var text = String.UnicodeScalarView()
    while let scalar = scanner.next(), scalar != "\n" {
      if scalar == "\"" { return (text, scanner.skip("i")) }
      text.append(scalar == "\\" ? try scanner.escapedScalar(from: scanner.position - 1) : scalar)
    }
    throw scanner.error("a string that does not end", at: start)
  }

  private func ignoringCase(_ text: String.UnicodeScalarView) throws(NotationError) -> TextExpression {
    try spend(2 * text.count)
    return .joined(text.map { .scalar(ScalarSet($0...$0).ignoringCase) })
  }

  private mutating func regularExpression() throws(NotationError) -> TextExpression {
    let start = scanner.position
    scanner.position += 1
    var pattern = String.UnicodeScalarView()
    while true {
      guard let scalar = scanner.next(), scalar != "\n" else {
        throw scanner.error("a regular expression that does not end", at: start)
      }
      if scalar == "/" { break }
      pattern.append(scalar)
      if scalar == "\\", let escaped = scanner.next() { pattern.append(escaped) }
    }
    var options = RegularExpressionParser.Options(dot: ScalarSet("\n").inverted, lookahead: .nowhere)
    for flag in scanner.take(while: { "a"..."z" ~= $0 }).unicodeScalars {
      switch flag {
      case "i": options.ignoresCase = true
      case "s": options.dot = .all
      // Anchors are the same for one line and many, and all texts are Unicode.
      case "m", "u": break
      default: throw scanner.error("the flag \"\(flag)\" of a regular expression is not supported", at: start)
      }
    }
    do throws(NotationError) {
      return try RegularExpressionParser.wholeMatch(String(pattern), options: options, budget: budget)
    } catch { throw scanner.error("in the regular expression, \(error)", at: start) }
  }
}
