import Formats
import Testing

@testable import Grammars

/// Requests that would take much time or memory in proportion to their length end in an error that says so, before they do.
@Suite struct HostileGrammarTests {
  /// A budget that is small, so that the tests are quick without optimisation.
  private static let units = 100_000

  private static func repeated(_ text: String, _ count: Int) -> String { String(repeating: text, count: count) }

  private static func list(_ count: Int, separator: String = ",", _ item: (Int) -> String) -> String {
    (0..<count).map(item).joined(separator: separator)
  }

  private static func string(_ text: String) -> String {
    String(decoding: JSONValue.string(text).encoded, as: UTF8.self)
  }

  private static func character(_ index: Int) -> String { String(Unicode.Scalar(0x4E00 + UInt32(index))!) }

  // MARK: schemas

  @Test(arguments: [
    ("many different characters", "{\"pattern\":\(string(list(3_000, separator: "", character))),\"minLength\":3}"),
    ("parts that may be empty", "{\"pattern\":\"^\(repeated("a?b?", 4_500))$\",\"minLength\":3}"),
    ("equal parts that may be empty", "{\"pattern\":\"^\(repeated(".?", 9_900))$\",\"minLength\":3}"),
    ("the opposite of many items", "{\"not\":{\"prefixItems\":[\(list(20_000) { _ in "{}" })]}}"),
    ("many alternatives", "{\"oneOf\":[\(list(20_000) { _ in "{\"type\":\"string\"}" })]}"),
    ("the opposite of many alternatives", "{\"not\":{\"oneOf\":[\(list(10_000) { _ in "{}" })]}}"),
    (
      "choices beside choices",
      "{\"allOf\":[\(list(20) { _ in "{\"anyOf\":[\(list(1_000) { _ in "{}" })]}" })]}"
    ),
    (
      "relative identifiers below a long one",
      "{\"$id\":\"http://x/\(repeated("k", 50_000))/\",\"$defs\":{\(list(1_000) { "\"a\($0)\":{\"$id\":\"b\($0)\"}" })}}"
    ),
    (
      "keys under many patterns",
      "{\"patternProperties\":{\"\(repeated("(a|b)?", 1_000))\":{}},\"properties\":{\(list(3_000) { "\"a\($0)\":{}" })}}"
    ),
    ("a long value", "{\"const\":\"\(repeated("k", 500_000))\"}"),
    (
      "a long value among many",
      "{\"enum\":[\"\(repeated("k", 20_000))\"],\"anyOf\":[\(list(1_000) { "{\"const\":\($0)}" })]}"
    ),
    (
      "values under a long pattern",
      "{\"enum\":[\(list(1_000) { "\"v\($0)\"" })],\"pattern\":\"\(repeated("(v|w)?", 3_000))\"}"
    ),
    ("many properties in many schemas", "{\"allOf\":[\(list(1_000) { "{\"properties\":{\"v\($0)\":{}}}" })]}"),
    ("many keys", "{\"type\":\"object\",\"required\":[\(list(45_000) { "\"v\($0)\"" })]}"),
    ("many properties of Unicode", "{\"pattern\":\"\(repeated("\\\\p{L}", 2_000))\"}"),
  ])
  func schemasThatTakeTooMuch(about: String, schema: String) throws {
    let value = try JSONValue.parse(Array(schema.utf8), subject: "schema")
    let budget = CompilationBudget(limit: Self.units)
    let error = #expect(throws: SchemaError.self, "\(about)") {
      try JSONSchemaCompiler.grammar(for: value, budget: budget)
    }
    let reason = error?.reason ?? ""
    #expect(
      reason.contains("more than \(Self.units) units of work") || reason.contains("more than 2000 alternatives"),
      "\(about): \(reason)")
  }

  /// The names of symbols and the paths of errors do not repeat long keys.
  @Test func longKeysAreNotCopied() throws {
    let key = Self.repeated("k", 10_000)
    let inner = Self.list(300) { "\"a\($0)\":{\"type\":\"null\"}" }
    let schema = "{\"properties\":{\"\(key)\":{\"properties\":{\(inner)}}}}"
    let grammar = try JSONSchemaCompiler.grammar(for: try JSONValue.parse(Array(schema.utf8), subject: "schema"))
    #expect(grammar.names.allSatisfy { $0.utf8.count < 2_000 })
    #expect(grammar.names.contains { $0.contains("kkk…") })
    let wrong = "{\"properties\":{\"\(key)\":{\"type\":7}}}"
    let error = #expect(throws: SchemaError.self) {
      try JSONSchemaCompiler.grammar(for: try JSONValue.parse(Array(wrong.utf8), subject: "schema"))
    }
    #expect(error?.path == "#/properties/\(Self.repeated("k", 50))…/type")
  }

  /// A long key that may stand at many positions is one terminal, made once.
  @Test func aLongKeyIsWrittenOnce() throws {
    let short = Self.list(50) { "\"a\($0)\":{}" }
    let schema =
      "{\"type\":\"object\",\"maxProperties\":50,\"additionalProperties\":false,\"properties\":{\(short),\"\(Self.repeated("k", 20_000))\":{}}}"
    let budget = CompilationBudget(limit: 800_000)
    _ = try JSONSchemaCompiler.grammar(for: try JSONValue.parse(Array(schema.utf8), subject: "schema"), budget: budget)
    #expect(budget.used > 20_000)
  }

  // MARK: expressions and GBNF

  @Test(arguments: [
    ("anchors", repeated("(^|a)", 1_000)), ("properties of Unicode", repeated("\\p{L}", 2_000)),
    ("classes", "[\(repeated("\\p{L}", 2_000))]"),
  ])
  func expressionsThatTakeTooMuch(about: String, pattern: String) {
    let error = #expect(throws: NotationError.self, "\(about)") {
      try RegularExpressionParser.expression(pattern, budget: CompilationBudget(limit: Self.units))
    }
    #expect(error?.reason == "the grammar takes more than \(Self.units) units of work to make")
  }

  /// Rules that double are not written out, and neither are long literals in rules that name them.
  @Test func rulesAreNotCopied() throws {
    let doubling = Self.list(20, separator: "\n") { "a\($0) ::= a\($0 + 1) a\($0 + 1)" }
    for text in [
      "root ::= a0\n\(doubling)\na20 ::= \"x\"",
      "root ::= \(Self.repeated("b ", 500))\nb ::= \"\(Self.repeated("x", 50_000))\"",
      "root ::= \(Self.repeated("b c ", 5_000))\nb ::= \"\(Self.repeated("x", 1_900))\"\nc ::= \"(\" c? \")\"",
    ] {
      let budget = CompilationBudget(limit: 2_000_000)
      let grammar = try GBNFParser.grammar(text, budget: budget)
      #expect(grammar.terminals.reduce(0) { $0 + $1.size } < 200_000)
      #expect(budget.used < 1_000_000)
    }
    let many = "root ::= \(Self.repeated("b b c ", 5_000))\nb ::= \"\(Self.repeated("x", 900))\"\nc ::= \"(\" c? \")\""
    #expect(throws: NotationError.self) {
      try GBNFParser.grammar(many, budget: CompilationBudget(limit: Self.units))
    }
  }

  /// Chains of rules that only name the next one are followed once.
  @Test func chainsOfRulesAreFollowedOnce() throws {
    let chain = Self.list(5_000, separator: "\n") { "a\($0) ::= a\($0 + 1)" }
    let uses = Self.list(5_000, separator: " | ") { "a\($0) r" }
    let grammar = try GBNFParser.grammar("root ::= \(uses)\nr ::= \"(\" r? \")\"\n\(chain)\na5000 ::= r r")
    #expect(grammar.names.count < 10)
  }

  @Test func aGrammarThatIsEmbeddedIsCounted() throws {
    let choice = try Grammar.choice((0..<1_000).map { "choice \($0)" })
    let budget = CompilationBudget(limit: Self.units)
    var grammar = Grammar()
    #expect(throws: GrammarError.tooLarge(what: "units of work to make", limit: Self.units)) {
      for _ in 0..<1_000 { _ = try grammar.embed(choice, budget: budget) }
    }
  }
}
