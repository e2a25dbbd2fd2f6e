import Formats
import Grammars

/// What an answer's text must be, as the request says it.
enum TextConstraint: AnswerConstraint {
  /// Any JSON object.
  case jsonObject
  /// A JSON document that a JSON Schema accepts. The schema is JSON text, so that equal ones are compiled once.
  case schema(String)
  /// A text that a regular expression matches as a whole.
  case regex(String)
  /// One of these texts.
  case choice([String])
  /// A text of a grammar in llama.cpp's notation (GBNF) or Lark's.
  case grammar(String)

  var isJSON: Bool {
    switch self {
    case .jsonObject, .schema: true
    case .regex, .choice, .grammar: false
    }
  }

  var key: GrammarKey { .text(self) }

  var size: Int {
    switch self {
    case .jsonObject: 0
    case .schema(let text), .regex(let text), .grammar(let text): text.utf8.count
    case .choice(let texts): texts.reduce(0) { $0 + 16 + $1.utf8.count }
    }
  }

  /// The schema of a JSON text that a body's value was written as.
  static func parsed(_ schema: String) throws -> JSONValue {
    try JSONValue.parse(Array(schema.utf8), subject: "schema", limits: JSONLimits(allowsAnyNumber: true))
  }

  func grammar(_ budget: CompilationBudget, warnings: inout [String]) throws(ConstraintError) -> Grammar {
    try grammar(budget)
  }

  /// The grammar of the texts.
  /// - Throws: `ConstraintError` that names what cannot be followed
  func grammar(_ budget: CompilationBudget) throws(ConstraintError) -> Grammar {
    do {
      switch self {
      case .jsonObject: return Grammar.jsonObject
      case .schema(let text):
        return try JSONSchemaCompiler.grammar(for: try Self.parsed(text), budget: budget)
      case .regex(let pattern): return Grammar(try RegularExpressionParser.expression(pattern, budget: budget))
      case .choice(let texts): return try Grammar.choice(texts, budget: budget)
      case .grammar(let text):
        return try LarkParser.isLark(text)
          ? LarkParser.grammar(text, budget: budget) : GBNFParser.grammar(text, budget: budget)
      }
    } catch { throw ConstraintError(reason: "\(error)") }
  }
}

/// Why a constraint cannot be followed, in a sentence that names the culprit.
struct ConstraintError: Error, Sendable {
  var reason: String
  /// The field that has what cannot be followed, where it is not the one that gives the constraint.
  var param: String?
}
