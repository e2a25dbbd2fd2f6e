import Formats
import Testing

@testable import Grammars

/// An error names the keyword where it is written, however the schema that has it is reached.
@Suite struct SchemaPathTests {
  /// Schemas with a keyword that cannot be followed, its path in them, and what its error begins with.
  private static let culprits: [(schema: String, path: String, reason: String)] = [
    (#""type":"strin""#, "/type", #"type "strin""#), (#""pattern":"(""#, "/pattern", "pattern"),
    (#""format":"regex""#, "/format", "format"), (#""minimum":"a""#, "/minimum", "minimum is not a number"),
    (#""exclusiveMaximum":[]"#, "/exclusiveMaximum", "exclusiveMaximum is not a number"),
    (#""multipleOf":99991"#, "/multipleOf", "multipleOf needs more"),
    (#""multipleOf":1e-12"#, "/multipleOf", "multipleOf needs more"),
    (#""minLength":1e9"#, "/minLength", "minLength is above"), (#""maxLength":1.5"#, "/maxLength", "maxLength is not"),
    (#""maxItems":3,"minItems":20000,"maxItems":30000"#, "/minItems", "minItems"),
    (#""minItems":20000"#, "/minItems", "minItems"), (#""maxItems":20000"#, "/maxItems", "minItems"),
    (#""minProperties":5000"#, "/minProperties", "minProperties"),
    (#""maxProperties":5000"#, "/maxProperties", "minProperties"),
    (#""uniqueItems":true"#, "/uniqueItems", "uniqueItems is not"),
    (#""uniqueItems":1"#, "/uniqueItems", "uniqueItems"),
    (#""contains":{},"minContains":-1"#, "/minContains", "minContains is not"),
    (#""maxContains":"a","contains":{}"#, "/maxContains", "maxContains is not"),
    (#""contains":{},"minContains":20000"#, "/contains", "minItems"), (#""enum":3"#, "/enum", "enum is not"),
    (#""const":{"a":[1e400]}"#, "/const", "const has"), (#""required":[1]"#, "/required", "required is not"),
    (#""dependentRequired":{"a/b":[1]}"#, "/dependentRequired/a~1b", "dependentRequired is not"),
    (#""foo":1"#, "/foo", "foo is not a keyword"), (##""$ref":"#/nowhere""##, "/$ref", "$ref names"),
    (#""prefixItems":3"#, "/prefixItems", "prefixItems is not"),
    (#""additionalItems":true,"prefixItems":3"#, "/prefixItems", "prefixItems is not"),
    (#""prefixItems":[{}],"items":[{}]"#, "/items", "items is an array beside"),
    (#""items":{},"additionalItems":false"#, "/additionalItems", "additionalItems has no effect"),
    (#""additionalProperties":{"foo":1}"#, "/additionalProperties/foo", "foo is not"),
    (#""properties":3,"additionalProperties":false"#, "/properties", "properties is not"),
    (#""additionalProperties":false,"patternProperties":[]"#, "/patternProperties", "patternProperties is not"),
    (#""patternProperties":{"a/(":{}}"#, "/patternProperties/a~1(", "patternProperties"),
    (#""allOf":{}"#, "/allOf", "allOf is not"), (#""allOf":[]"#, "/allOf", "allOf is an empty"),
    (#""anyOf":[{},3]"#, "/anyOf/1", "a schema is"), (#""properties":{"~":3}"#, "/properties/~0", "a schema is"),
    (#""not":{"uniqueItems":true}"#, "/not/uniqueItems", "the opposite"),
    (#""not":{"additionalProperties":false}"#, "/not/additionalProperties", "the opposite"),
  ]

  /// Schemas that lead to another, which stands for `X`, and the path of that.
  private static let ways: [(schema: String, path: String)] = [
    ("{X}", "#"), (##"{"$ref":"#/$defs/x","$defs":{"x":{X}}}"##, "#/$defs/x"),
    (##"{"$ref":"#/$defs/x","$defs":{"y":{X},"x":{"$ref":"#/$defs/y"}}}"##, "#/$defs/y"),
    (##"{"$ref":"#/$defs/a~1b~0c%20d%25%7E01","$defs":{"a/b~c d%~1":{X}}}"##, "#/$defs/a~1b~0c d%~01"),
    (##"{"$ref":"#/definitions/x","definitions":{"x":{X}}}"##, "#/definitions/x"),
    (##"{"$ref":"#x","$defs":{"x":{"$anchor":"x",X}}}"##, "#/$defs/x"),
    (##"{"$dynamicRef":"#x","$defs":{"x":{"$dynamicAnchor":"x",X}}}"##, "#/$defs/x"),
    (##"{"$ref":"#/x-parts/0/y","x-parts":[{"y":{X}}]}"##, "#/x-parts/0/y"),
    (##"{"$ref":"#/$defs/x/x-y","$defs":{"x":{"x-y":{X}}}}"##, "#/$defs/x/x-y"),
    (##"{"$ref":"http://a/b#/$defs/x","$defs":{"r":{"$id":"http://a/b","$defs":{"x":{X}}}}}"##, "#/$defs/r/$defs/x"),
    (#"{"allOf":[{"title":"a"},{X}]}"#, "#/allOf/1"),
    (##"{"allOf":[{"$ref":"#/$defs/y"},{"$ref":"#/$defs/x"}],"$defs":{"x":{X},"y":{"title":"y"}}}"##, "#/$defs/x"),
    (##"{"required":["q"],"minItems":1,"minLength":1,"$ref":"#/$defs/x","$defs":{"x":{X}}}"##, "#/$defs/x"),
    (#"{"anyOf":[{"const":1},{X}]}"#, "#/anyOf/1"), (#"{"oneOf":[{X}]}"#, "#/oneOf/0"),
    (#"{"properties":{"a/b~c":{X}}}"#, "#/properties/a~1b~0c"),
    (#"{"patternProperties":{"^/":{X}}}"#, "#/patternProperties/^~1"),
    (#"{"additionalProperties":{X}}"#, "#/additionalProperties"), (#"{"items":{X}}"#, "#/items"),
    (#"{"items":[{},{X}]}"#, "#/items/1"), (#"{"prefixItems":[{},{X}]}"#, "#/prefixItems/1"),
    (#"{"contains":{X}}"#, "#/contains"),
    (#"{"if":{"const":1},"else":{X}}"#, "#/else"), (#"{"not":{"not":{X}}}"#, "#/not/not"),
  ]

  @Test(arguments: ways.indices) func anErrorNamesItsKeyword(_ index: Int) throws {
    let way = Self.ways[index]
    for culprit in Self.culprits {
      let schema = way.schema.replacing("X", with: culprit.schema)
      let value: JSONValue
      do {
        value = try JSONValue.parse(schema.utf8, subject: "schema", limits: JSONLimits(allowsAnyNumber: true))
      } catch { continue }
      let error = #expect(throws: SchemaError.self, "\(schema)") { try JSONSchemaCompiler.grammar(for: value) }
      #expect(error?.path == way.path + culprit.path, "\(schema): \(error?.description ?? "")")
      #expect(error?.reason.hasPrefix(culprit.reason) == true, "\(schema): \(error?.description ?? "")")
    }
  }

  /// The bound that is in force is the one that is named.
  @Test(arguments: [
    (#"{"type":"object","allOf":[{"minProperties":3},{"minProperties":1}]}"#, "#/allOf/0/minProperties"),
    (#"{"type":"object","minProperties":1,"allOf":[{"minProperties":3}]}"#, "#/allOf/0/minProperties"),
    (#"{"type":"object","allOf":[{"minProperties":3},{"not":{"const":{}}}]}"#, "#/allOf/0/minProperties"),
    (#"{"type":"array","allOf":[{"maxItems":90000},{"maxItems":20000}]}"#, "#/allOf/1/maxItems"),
    (#"{"type":"array","allOf":[{"maxItems":90000},{"maxItems":2}],"minItems":20000}"#, ""),
    (#"{"type":"integer","allOf":[{"multipleOf":7},{"multipleOf":99991},{"multipleOf":3}]}"#, "#/allOf/1/multipleOf"),
  ])
  func ofSeveralBoundsTheOneInForceIsNamed(_ schema: String, _ path: String) throws {
    let value = try JSONValue.parse(schema.utf8, subject: "schema")
    let error = #expect(throws: SchemaError.self) { try JSONSchemaCompiler.grammar(for: value) }
    #expect(error?.path == (path.isEmpty ? "#" : path), "\(error?.description ?? "")")
  }

  @Test(arguments: ["+1", "01", "-1", "2", "1/title/x", "~2"]) func aPointerThatIsNoneIsNamed(_ token: String) throws {
    let value = try JSONValue.parse(
      ##"{"$ref":"#/allOf/\##(token)","allOf":[{},{"title":"a"}]}"##.utf8, subject: "schema")
    let error = #expect(throws: SchemaError.self) { try JSONSchemaCompiler.grammar(for: value) }
    #expect(error?.path == "#/$ref")
  }
}
