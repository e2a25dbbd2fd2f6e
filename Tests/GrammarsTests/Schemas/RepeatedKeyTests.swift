import Formats
import Testing

@testable import Grammars

/// Objects in which a key comes twice. Readers keep the last value, and the object must be valid then.
@Suite struct RepeatedKeyTests {
  private static let values = ["1", "\"s\"", "true"]

  /// Every object of up to three pairs over three keys, repetitions included.
  private static let texts: [String] = {
    let pairs = ["a", "b", "q"].flatMap { key in values.map { "\"\(key)\":\($0)" } }
    var result = [""]
    var last = [""]
    for _ in 0..<3 {
      last = last.flatMap { text in pairs.map { text.isEmpty ? $0 : text + "," + $0 } }
      result += last
    }
    return result.map { "{\($0)}" }
  }()

  @Test(arguments: [
    #""minProperties":1"#, #""minProperties":2,"required":["a"]"#, #""maxProperties":1"#, #""maxProperties":2"#,
    #""minProperties":2,"maxProperties":2,"properties":{"a":{"const":1}},"required":["a"]"#,
    #""minProperties":3,"required":["a","b"]"#, #""minProperties":2,"propertyNames":{"enum":["a","q"]}"#,
    #""patternProperties":{"^[bq]":{"type":"string"},"q":{"minLength":1}}"#,
    #""properties":{"a":{"const":1}},"additionalProperties":{"type":"string"}"#, #""required":["q"]"#,
    #""dependentRequired":{"q":["b"]}"#, #""dependentSchemas":{"q":{"maxProperties":1}}"#,
    #""not":{"required":["q"]}"#, #""not":{"maxProperties":0}"#,
    #""oneOf":[{"required":["a"]},{"required":["q"]}]"#,
    #""if":{"required":["q"],"properties":{"q":{"type":"integer"}}},"then":{"required":["b"]}"#,
  ])
  func whatIsReadIsValid(_ keywords: String) throws {
    let schema = "{\"type\":\"object\",\(keywords)}"
    let value = try JSONValue.parse(Array(schema.utf8), subject: "schema")
    let grammar = try JSONSchemaCompiler.grammar(for: value, whiteSpace: .none)
    let document = try SchemaDocument(value, CompilationBudget())
    let expander = SchemaExpander(document, CompilationBudget())
    var accepted: Set<[String]> = []
    var valid: [[String]] = []
    let vocabulary = TokenVocabulary(tokens: [], endTokens: [])
    let compiled = try CompiledGrammar(grammar, vocabulary: vocabulary)
    for text in Self.texts {
      let object = try JSONValue.parseKeepingLast(Array(text.utf8), subject: "object")
      var validator = SchemaValidator(expander)
      let isValid = try validator.accepts(object, all: [document.root])
      let pairs = object.object!.pairs.map { "\($0.key):\($0.value)" }.sorted()
      if isValid { valid.append(pairs) }
      var matcher = try GrammarMatcher(compiled)
      guard try matcher.accept(bytes: Array(text.utf8)), try matcher.canEnd() else { continue }
      #expect(isValid, "\(schema) \(text)")
      accepted.insert(pairs)
    }
    // And each valid object can be written.
    for pairs in valid where !accepted.contains(pairs) { Issue.record("\(schema) \(pairs)") }
    #expect(!accepted.isEmpty)
  }
}
