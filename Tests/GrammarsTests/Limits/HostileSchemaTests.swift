import Formats
import Grammars
import Testing

/// Schemas that would take too much are refused.
@Suite struct HostileSchemaTests {
  private func grammar(_ text: String) throws -> Grammar {
    try JSONSchemaCompiler.grammar(for: try JSONValue.parse(Array(text.utf8), subject: "schema"))
  }

  /// No count beyond the largest one exists.
  @Test(arguments: ["maxItems", "maxProperties"]) func theLargestCounts(keyword: String) {
    #expect(throws: SchemaError.self) { try grammar("{\"not\":{\"\(keyword)\":9223372036854775807}}") }
  }

  /// Each level of choices doubles the ways to check a value.
  @Test func choicesWithinChoices() {
    let levels = (1..<50).map {
      ##""a\##($0)":{"anyOf":[{"$ref":"#/$defs/a\##($0 + 1)"},{"$ref":"#/$defs/a\##($0 + 1)"}]}"##
    }
    let first = ##"{"$ref":"#/$defs/a1"}"##
    #expect(throws: SchemaError.self) {
      try grammar(
        "{\"enum\":[1],\"anyOf\":[\(first),\(first)],\"$defs\":{\(levels.joined(separator: ",")),\"a50\":{\"type\":\"null\"}}}"
      )
    }
  }
}
