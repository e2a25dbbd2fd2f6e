import Formats
import Grammars
import Testing

@Suite struct JSONSchemaTests {
  @Test func objectsAreWrittenInTheDeclaredOrder() throws {
    let grammar = try JSONSchemaCompiler.grammar(
      for: [
        "type": "object", "properties": ["a": ["type": "integer"], "b": ["type": "string"]], "required": ["b"],
        "additionalProperties": false,
      ])
    #expect(SimpleRecognizer(#"{"a":1,"b":"x"}"#).matches(grammar))
    #expect(SimpleRecognizer("{\n  \"a\": 1,\n  \"b\": \"x\"\n}").matches(grammar))
    #expect(SimpleRecognizer(#"{"b":"x"}"#).matches(grammar))
    #expect(!SimpleRecognizer(#"{"b":"x","a":1}"#).matches(grammar))
    #expect(!SimpleRecognizer(#"{"a":1}"#).matches(grammar))
    #expect(!SimpleRecognizer(#"{"a":1.5,"b":"x"}"#).matches(grammar))
    #expect(!SimpleRecognizer(#"{"a":1,"b":"x","c":1}"#).matches(grammar))
    #expect(!SimpleRecognizer(#"{"a":1,"b":"x",}"#).matches(grammar))
    #expect(!SimpleRecognizer(#"{,"b":"x"}"#).matches(grammar))
  }
}
