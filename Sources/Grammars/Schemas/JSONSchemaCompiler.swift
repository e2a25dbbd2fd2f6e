public import Formats

/// Turns a JSON Schema into a grammar of the JSON texts that satisfy it.
///
/// Draft 2020-12, with the older forms of `items`, `dependencies` and `definitions`. Objects are written with their declared
/// properties in order, then others. A demand that a grammar cannot express is an error, never left out; annotations and
/// keywords that begin with `x-` are accepted.
public enum JSONSchemaCompiler {
  /// The grammar of a schema's values.
  /// - Throws: `SchemaError` that names the keyword and its path
  public static func grammar(
    for schema: JSONValue, whiteSpace: JSONWhiteSpace = .flexible, budget: CompilationBudget = CompilationBudget()
  ) throws(SchemaError) -> Grammar {
    let document = try SchemaDocument(schema, budget)
    let root = document.root
    var builder = SchemaGrammarBuilder(SchemaExpander(document, budget), whiteSpace: whiteSpace)
    guard let grammar = try builder.build(root).reduced() else {
      throw SchemaError("#", "no value satisfies the schema")
    }
    return grammar
  }
}

extension Grammar {
  /// Any JSON object.
  public static let jsonObject = jsonObject(whiteSpace: .flexible)

  /// Any JSON object.
  public static func jsonObject(whiteSpace: JSONWhiteSpace) -> Grammar {
    do { return try JSONSchemaCompiler.grammar(for: ["type": "object"], whiteSpace: whiteSpace) } catch {
      preconditionFailure("\(error)")
    }
  }

  /// One of the texts.
  /// - Parameter texts: at least one
  /// - Throws: if they are too long together
  public static func choice(
    _ texts: [String], budget: CompilationBudget = CompilationBudget()
  ) throws(GrammarError) -> Grammar {
    precondition(!texts.isEmpty)
    do throws(CompilationBudget.Exceeded) {
      for text in texts { try budget.spend(on: text) }
      return Grammar(try TextExpression.any(of: texts).bytes(written: .raw, budget))
    } catch { throw .tooLarge(what: "units of work to make", limit: error.limit) }
  }

  /// The strings of one expression.
  public init(_ expression: ByteExpression) {
    self.init()
    start = addSymbol("root")
    addRule(start, [.terminal(terminal(expression))])
  }
}
