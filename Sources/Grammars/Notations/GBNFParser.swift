/// Parses grammars in llama.cpp's notation GBNF: rules `name ::= …` of which `root` is the whole text.
public struct GBNFParser {
  private static let longest = 1_000_000
  private static let deepest = 100
  private static let mostRepetitions = 10_000
  private static let mostQuantifiers = 8

  private var scanner: ScalarScanner
  private var depth = 0

  /// The grammar of the texts of `root`.
  /// - Throws: `NotationError` with line and column
  public static func grammar(
    _ text: String, budget: CompilationBudget = CompilationBudget()
  ) throws(NotationError) -> Grammar {
    var parser = GBNFParser(text)
    return try parser.parse(budget)
  }

  private init(_ text: String) { scanner = ScalarScanner(text) }

  private mutating func parse(_ budget: CompilationBudget) throws(NotationError) -> Grammar {
    guard scanner.count <= Self.longest else {
      throw scanner.error("a grammar of more than \(Self.longest) characters")
    }
    var builder = NotationGrammarBuilder(scanner, budget)
    skipSpace()
    while !scanner.isAtEnd {
      let start = scanner.position
      guard let name = name(), skipDefinition() else {
        throw scanner.error("a rule \"name ::= …\" is expected", at: start)
      }
      guard builder.rules[name] == nil else { throw scanner.error("a second rule \"\(name)\"", at: start) }
      builder.rules[name] = try alternatives()
      if scanner.current == ")" { throw scanner.error("a closing parenthesis without an opening one") }
    }
    guard builder.rules["root"] != nil else { throw scanner.error("there is no rule \"root\"", at: 0) }
    return try builder.build(from: "root")
  }

  private mutating func skipSpace() {
    while let scalar = scanner.current {
      if scalar == "#" {
        _ = scanner.take { $0 != "\n" }
      } else if " \t\r\n".unicodeScalars.contains(scalar) {
        scanner.position += 1
      } else {
        return
      }
    }
  }

  private mutating func name() -> String? {
    let name = scanner.take {
      "a"..."z" ~= $0 || "A"..."Z" ~= $0 || "0"..."9" ~= $0 || $0 == "-" || $0 == "_"
    }
    return name.isEmpty ? nil : name
  }

  private mutating func skipDefinition() -> Bool {
    skipSpace()
    return scanner.skip("::=")
  }

  /// Whether the next rule begins, which ends this one.
  private func isAtRule() -> Bool {
    var ahead = self
    return ahead.name() != nil && ahead.skipDefinition()
  }

  private mutating func alternatives() throws(NotationError) -> NotationNode {
    var parts = [try sequence()]
    while scanner.skip("|") { parts.append(try sequence()) }
    return parts.count == 1 ? parts[0] : .alternatives(parts)
  }

  private mutating func sequence() throws(NotationError) -> NotationNode {
    var parts: [NotationNode] = []
    skipSpace()
    while let scalar = scanner.current, scalar != "|", scalar != ")", !isAtRule() {
      parts.append(try quantified())
      skipSpace()
    }
    return parts.count == 1 ? parts[0] : .sequence(parts)
  }

  private mutating func quantified() throws(NotationError) -> NotationNode {
    var node = try atom()
    var quantifiers = 0
    while true {
      skipSpace()
      let start = scanner.position
      quantifiers += 1
      guard quantifiers <= Self.mostQuantifiers else {
        throw scanner.error("more than \(Self.mostQuantifiers) quantifiers in a row")
      }
      if scanner.skip("*") {
        node = .repetition(node, minimum: 0, maximum: nil)
      } else if scanner.skip("+") {
        node = .repetition(node, minimum: 1, maximum: nil)
      } else if scanner.skip("?") {
        node = .repetition(node, minimum: 0, maximum: 1)
      } else if scanner.skip("{") {
        guard let counts = try scanner.counts(limit: Self.mostRepetitions) else {
          throw scanner.error("a number of repetitions is expected in braces", at: start)
        }
        node = .repetition(node, minimum: counts.minimum, maximum: counts.maximum)
      } else {
        return node
      }
    }
  }

  private mutating func atom() throws(NotationError) -> NotationNode {
    let start = scanner.position
    switch scanner.current {
    case "\"":
      scanner.position += 1
      return .text(.literal(try literal(from: start)))
    case "[":
      scanner.position += 1
      return .text(.scalar(try characterClass(from: start)))
    case ".":
      scanner.position += 1
      return .text(.scalar(.all))
    case "(":
      scanner.position += 1
      depth += 1
      guard depth <= Self.deepest else { throw scanner.error("groups more than \(Self.deepest) deep", at: start) }
      let inner = try alternatives()
      depth -= 1
      guard scanner.skip(")") else { throw scanner.error("a group that does not end", at: start) }
      return inner
    default:
      if let name = name() { return .reference(name, position: start) }
      throw scanner.error("\"\(scanner.current.map(String.init) ?? "")\" is not part of a rule")
    }
  }

  private mutating func literal(from start: Int) throws(NotationError) -> String {
    var text = String.UnicodeScalarView()
    while let scalar = scanner.next() {
      if scalar == "\"" { return String(text) }
      text.append(scalar == "\\" ? try scanner.escapedScalar(from: scanner.position - 1) : scalar)
    }
    throw scanner.error("a literal that does not end", at: start)
  }

  private mutating func characterClass(from start: Int) throws(NotationError) -> ScalarSet {
    let isNegated = scanner.skip("^")
    var ranges: [ClosedRange<UInt32>] = []
    while !scanner.skip("]") {
      let position = scanner.position
      let first = try member(from: start)
      var last = first
      if scanner.current == "-", let after = scanner.peek(1), after != "]" {
        scanner.position += 1
        last = try member(from: start)
      }
      guard first <= last else { throw scanner.error("a range whose ends are in the wrong order", at: position) }
      ranges.append(first.value...last.value)
    }
    let set = ScalarSet(ranges)
    return isNegated ? set.inverted : set
  }

  private mutating func member(from start: Int) throws(NotationError) -> Unicode.Scalar {
    guard let scalar = scanner.next() else { throw scanner.error("a character class that does not end", at: start) }
    return scalar == "\\" ? try scanner.escapedScalar(from: scanner.position - 1) : scalar
  }
}
