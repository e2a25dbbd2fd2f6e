import Formats
import Testing

@testable import Grammars

@Suite struct JSONSchemaTests {
  private func grammar(_ schema: String, _ whiteSpace: JSONWhiteSpace = .flexible) throws -> Grammar {
    let value = try JSONValue.parse(schema.utf8, subject: "schema", limits: JSONLimits(depth: 400))
    return try JSONSchemaCompiler.grammar(for: value, whiteSpace: whiteSpace)
  }

  private struct Case {
    let schema: String
    let accepted: [String]
    let rejected: [String]

    init(_ schema: String, _ accepted: [String], _ rejected: [String]) {
      (self.schema, self.accepted, self.rejected) = (schema, accepted, rejected)
    }
  }

  private static let cases: [Case] = [
    // Objects: declared order, optional and undeclared properties.
    Case(
      #"{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"string"}},"required":["b"],"additionalProperties":false}"#,
      [#"{"a":1,"b":"x"}"#, "{\n  \"a\": 1,\n  \"b\": \"x\"\n}", #"{"b":"x"}"#, #"{ "b": "x" }"#],
      [#"{"b":"x","a":1}"#, #"{"a":1}"#, #"{"a":1.5,"b":"x"}"#, #"{"a":1,"b":"x","c":1}"#, #"{"a":1,"b":"x",}"#, "{}"]
    ),
    Case(
      #"{"properties":{"a":{"const":1}},"required":["z","y"],"type":"object"}"#,
      [#"{"a":1,"z":0,"y":[],"k":{}}"#, #"{"z":0,"y":1}"#], [#"{"y":1,"z":0}"#, #"{"z":0,"y":1,"a":2}"#, #"{"z":0}"#]
    ),
    // Other keys equal no declared one, however they are written.
    Case(
      #"{"type":"object","properties":{"a":{"const":1}},"additionalProperties":{"const":2}}"#,
      [#"{"a":1,"b":2}"#, #"{"aa":2}"#, #"{"\u00e9":2}"#, "{}"], [#"{"a":2}"#, #"{"\u0061":2}"#, #"{"b":1}"#]
    ),
    Case(
      #"{"type":"object","patternProperties":{"^x":{"const":1},"y$":{"enum":[1,2]}},"additionalProperties":false}"#,
      [#"{"x":1,"xy":1,"zy":2}"#, "{}"], [#"{"xy":2}"#, #"{"z":1}"#, #"{"x":2}"#, #"{"\u0078":2}"#]
    ),
    Case(
      #"{"type":"object","minProperties":1,"maxProperties":2,"properties":{"a":{"const":0},"b":{"const":0}}}"#,
      [#"{"a":0}"#, #"{"a":0,"b":0}"#, #"{"q":1}"#], ["{}", #"{"a":0,"b":0,"q":0}"#]),
    Case(
      #"{"type":"object","propertyNames":{"pattern":"^[a-c]+$"},"properties":{"d":true,"a":{"const":1}}}"#,
      [#"{"a":1,"cc":null}"#], [#"{"d":1}"#, #"{"e":1}"#]),
    // Strings.
    Case(
      #"{"type":"string","pattern":"^\"\\\\\n$"}"#, [#""\"\\\n""#, #""\u0022\u005C\u000a""#], [#""x""#, "\"\"\\\n\""]),
    Case(
      #"{"type":"string","minLength":2,"maxLength":2}"#, [#""😀é""#, #""\ud83d\ude00\u00e9""#, #""\n/""#],
      [#""😀""#, #""abc""#, #""\ud83d\ude00""#]),
    Case(#"{"type":"string","pattern":"😀"}"#, [#""a\uD83D\uDE00""#, #""😀b""#], [#""\ud83d""#, #""😁""#]),
    Case(#"{"type":"string"}"#, [#""""#, #""\/\u0000""#], [#""\ud83d""#, #""\ude00\ud83d""#, "\"\u{01}\"", #""\x""#]),
    Case(
      #"{"pattern":"^a","minLength":3,"allOf":[{"pattern":"b$"}],"type":"string"}"#, [#""a-b""#], [#""ab""#, #""a-c""#]),
    // Numbers.
    Case(
      #"{"type":"integer","minimum":-3,"exclusiveMaximum":12}"#, ["-3", "0", "11"],
      ["-4", "12", "1.0", "-0", "007", "1e1"]),
    Case(
      #"{"type":"number","minimum":0.5,"maximum":2.25}"#, ["0.5", "0.50", "1", "2.25", "2.250"],
      ["0.49", "2.2501", "3", "0"]),
    Case(#"{"type":"number"}"#, ["1", "-0.5", "1e5", "2.5E-10"], ["1.", ".5", "01", "1e", "1e999", "+1"]),
    Case(
      #"{"type":"integer","minimum":0,"maximum":120}"#, ["0", "9", "10", "99", "100", "120"],
      ["00", "01", "049", "009", "000", "0120", "121", "-0"]),
    Case(#"{"type":"number","minimum":-10.5,"maximum":-2}"#, ["-2", "-9.5", "-10"], ["-02", "-00.5", "-09", "-010"]),
    Case(#"{"type":"integer","multipleOf":7,"minimum":1}"#, ["7", "49", "7000"], ["0", "8", "-7", "70.0"]),
    Case(#"{"type":"number","multipleOf":0.01}"#, ["1", "1.5", "-1.25", "1.250"], ["1.255", "1.001"]),
    Case(#"{"type":"integer","not":{"enum":[1,2]}}"#, ["0", "3", "11"], ["1", "2"]),
    // Arrays.
    Case(
      #"{"type":"array","prefixItems":[{"const":1}],"items":{"const":2},"minItems":1,"maxItems":3}"#,
      ["[1]", "[1,2,2]", "[\n1, 2 ]"], ["[]", "[2]", "[1,2,2,2]", "[1,1]", "[1,]", "[,1]"]),
    Case(
      #"{"type":"array","contains":{"const":1},"maxContains":2,"items":{"enum":[0,1]}}"#,
      ["[1]", "[0,1,0,1]"], ["[]", "[0]", "[1,1,1]", "[2]"]),
    // Different items of a few values.
    Case(
      #"{"type":"array","uniqueItems":true,"minItems":1,"items":{"enum":["a","b",1,1.0]}}"#,
      [#"["a"]"#, #"["b","a"]"#, #"[1,"b","a"]"#], ["[]", #"["a","a"]"#, #"["a","b",1,1]"#, #"["c"]"#, #"["a",]"#]),
    Case(
      #"{"type":"array","uniqueItems":true,"maxItems":2,"prefixItems":[{"const":[1]}],"items":{"type":["boolean","null"]}}"#,
      ["[]", "[[1]]", "[[1],null]", "[[1],true]"], ["[[1],[1]]", "[null]", "[[1],true,null]"]),
    // Positions that cannot equal one another.
    Case(
      #"{"type":"array","uniqueItems":true,"maxItems":3,"prefixItems":[{"type":"string"},{"enum":[1,2]},{"enum":[2,3]}]}"#,
      ["[]", #"["x"]"#, #"["x",2,3]"#, #"["x",1,2]"#], [#"["x",2,2]"#, #"["x",3]"#, "[1]", #"["x",1,2,"y"]"#]),
    Case(
      #"{"type":"array","uniqueItems":true,"minItems":2,"prefixItems":[{"type":"integer"},{"type":"array"}],"items":false}"#,
      ["[1,[]]", "[1,[1,1]]"], ["[1]", "[1,1]", "[1,[],[]]"]),
    Case(
      #"{"type":"array","uniqueItems":true,"prefixItems":[{"minimum":5,"type":"number"}],"items":{"enum":[1,2]}}"#,
      ["[7,1,2]", "[5.5]", "[9,2]"], ["[7,1,1]", "[1]", "[7,7]"]),
    Case(#"{"type":"array","uniqueItems":true,"maxItems":1,"items":{"type":"integer"}}"#, ["[]", "[7]"], ["[7,8]"]),
    Case(#"{"type":"array","uniqueItems":false,"items":{"const":7}}"#, ["[]", "[7,7]"], ["[8]"]),
    // What other schemas evaluate.
    Case(
      ##"{"type":"object","properties":{"a":{"const":1}},"allOf":[{"$ref":"#/$defs/b"}],"unevaluatedProperties":false,"$defs":{"b":{"properties":{"b":{"const":2}},"patternProperties":{"^x":{"const":3}}}}}"##,
      ["{}", #"{"a":1,"b":2}"#, #"{"x1":3}"#], [#"{"c":1}"#, #"{"a":2}"#, #"{"x1":4}"#]),
    Case(
      #"{"type":"object","unevaluatedProperties":{"const":0},"oneOf":[{"properties":{"a":{"const":1}},"required":["a"]},{"properties":{"a":{"const":2}},"required":["a"]}]}"#,
      [#"{"a":1}"#, #"{"a":2,"z":0}"#], [#"{"a":3}"#, #"{"a":1,"z":1}"#]),
    Case(
      #"{"type":"array","allOf":[{"prefixItems":[{"const":1}]}],"unevaluatedItems":{"const":2}}"#,
      ["[]", "[1]", "[1,2,2]"], ["[2]", "[1,1]"]),
    Case(#"{"type":"array","items":{"const":1},"unevaluatedItems":false}"#, ["[1,1]"], ["[2]"]),
    // What the value decides that others evaluate.
    Case(
      #"{"type":"object","anyOf":[{"properties":{"a":{"const":1}},"required":["a"]},{"properties":{"b":{"const":2}},"required":["b"]},{}],"unevaluatedProperties":false}"#,
      ["{}", #"{"a":1}"#, #"{"b":2}"#, #"{"a":1,"b":2}"#],
      [#"{"a":2}"#, #"{"a":1,"b":3}"#, #"{"a":1,"c":1}"#, #"{"c":1}"#]),
    Case(
      #"{"type":"object","oneOf":[{"properties":{"a":{"const":1}},"required":["a"]},{"properties":{"b":{"const":2}},"required":["b"]}],"unevaluatedProperties":{"const":0}}"#,
      [#"{"a":1}"#, #"{"b":2}"#, #"{"a":1,"c":0}"#, #"{"b":2,"bc":0}"#],
      ["{}", #"{"a":1,"c":1}"#, #"{"b":2,"c":1}"#]),
    Case(
      #"{"type":"object","if":{"properties":{"a":{"const":1}},"required":["a"]},"then":{"properties":{"b":{}}},"else":{"properties":{"c":{"const":3}}},"unevaluatedProperties":false}"#,
      ["{}", #"{"a":1}"#, #"{"a":1,"b":null}"#, #"{"c":3}"#],
      [#"{"a":1,"c":3}"#, #"{"b":1}"#, #"{"a":2}"#, #"{"c":4}"#]),
    Case(
      #"{"type":"object","properties":{"a":{}},"dependentSchemas":{"a":{"properties":{"b":{"const":2}}}},"unevaluatedProperties":false}"#,
      ["{}", #"{"a":1}"#, #"{"a":1,"b":2}"#], [#"{"b":2}"#, #"{"a":1,"b":1}"#, #"{"a":1,"c":1}"#]),
    Case(
      #"{"anyOf":[{"prefixItems":[{"const":1}]},{"prefixItems":[{},{"const":2}]},{"type":"string"}],"unevaluatedItems":false}"#,
      ["[]", "[1]", "[1,2]", "[3,2]", #""a""#, "7"], ["[1,3]", "[1,2,3]", "[3,4]"]),
    Case(
      #"{"type":"array","prefixItems":[{"const":0}],"contains":{"const":1},"unevaluatedItems":{"const":2}}"#,
      ["[0,1]", "[0,1,2,1]", "[0,2,1]"], ["[]", "[0]", "[1]", "[0,2]", "[0,1,3]"]),
    Case(
      #"{"type":"object","not":{"patternProperties":{"^x":{}},"additionalProperties":true,"required":["a"]},"additionalProperties":{"const":1}}"#,
      ["{}", #"{"x":1}"#], [#"{"a":1}"#, #"{"x":2}"#]),
    // What has no effect in the draft that the schema names.
    Case(
      ##"{"$schema":"http://json-schema.org/draft-07/schema#","items":{"$ref":"#/definitions/a","maxLength":1},"definitions":{"a":{"enum":["ab"]}},"additionalItems":false,"type":"array"}"##,
      ["[]", #"["ab","ab"]"#], [#"["a"]"#, "[1]"]),
    // Dynamic references with one target.
    Case(
      ##"{"$id":"http://x/tree","$dynamicAnchor":"node","type":"object","properties":{"child":{"$dynamicRef":"#node"}},"additionalProperties":false}"##,
      ["{}", #"{"child":{"child":{}}}"#], [#"{"child":1}"#, #"{"child":{"c":1}}"#]),
    Case(
      ##"{"$recursiveAnchor":true,"type":"array","items":{"$recursiveRef":"#"}}"##, ["[]", "[[],[[]]]"], ["[1]", "{}"]),
    // Keys that are counted come once.
    Case(
      #"{"type":"object","minProperties":2,"propertyNames":{"enum":["a","b","c"]},"additionalProperties":{"const":1}}"#,
      [#"{"a":1,"b":1}"#, #"{"b":1,"c":1}"#, #"{"a":1,"b":1,"c":1}"#],
      ["{}", #"{"a":1}"#, #"{"a":1,"a":1}"#, #"{"c":1,"c":1}"#, #"{"a":1,"d":1}"#]),
    // Combinations.
    Case(#"{"anyOf":[{"type":"string"},{"type":"integer"}],"enum":["a",1,null]}"#, [#""a""#, "1"], ["null", #""b""#]),
    Case(#"{"oneOf":[{"minimum":2},{"maximum":5}],"type":"integer"}"#, ["1", "6"], ["2", "5"]),
    Case(
      #"{"if":{"type":"string"},"then":{"maxLength":1},"else":{"type":"null"}}"#, [#""a""#, "null"], [#""ab""#, "1"]),
    Case(
      ##"{"$ref":"#/$defs/list","$defs":{"list":{"type":"array","items":{"$ref":"#/$defs/list"}}}}"##,
      ["[]", "[[],[[]]]"], ["[1]", "[[]"]),
    Case(
      ##"{"$defs":{"n":{"$anchor":"n","type":"object","properties":{"next":{"$ref":"#n"}},"additionalProperties":false}},"$ref":"#n","required":["next"]}"##,
      [#"{"next":{}}"#, #"{"next":{"next":{}}}"#], ["{}", #"{"next":1}"#]),
    // What OpenAPI and Pydantic write.
    Case(
      ##"{"discriminator":{"mapping":{"a":"#/$defs/A","b":"#/$defs/B"},"propertyName":"k"},"oneOf":[{"$ref":"#/$defs/A"},{"$ref":"#/$defs/B"}],"$defs":{"A":{"type":"object","properties":{"k":{"const":"a"}},"required":["k"],"additionalProperties":false},"B":{"type":"object","properties":{"k":{"const":"b"},"n":{"type":"integer"}},"required":["k","n"],"additionalProperties":false}}}"##,
      [#"{"k":"a"}"#, #"{"k":"b","n":1}"#], [#"{"k":"b"}"#, #"{"k":"a","n":1}"#, "{}"]),
    Case(
      #"{"type":"string","pattern":"^(?!^[-+.]*$)[+-]?0*\\d*\\.?\\d*$"}"#, [#""1""#, #""-0.5""#, #""+.5""#, #""7.""#],
      [#""""#, #"".""#, #""-""#, #""1e5""#, #""1.5.""#]),
    Case(
      #"{"type":"string","pattern":"^(?!\\.)(?!.*\\.\\.)([A-Za-z0-9_'+\\-\\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\\-]*\\.)+[A-Za-z]{2,}$"}"#,
      [#""a.b@c.de""#, #""a@b-c.d.ef""#], [#"".a@b.cd""#, #""a..b@c.de""#, #""a.@b.cd""#, #""a@b""#]),
    Case(
      #"{"type":"integer","format":"int32"}"#, ["0", "-2147483648", "2147483647"],
      ["2147483648", "-2147483649", "1.5", #""1""#]),
    Case(#"{"type":"number","format":"uint8"}"#, ["0", "255", "3.0"], ["256", "-1", "0.5"]),
    Case(
      #"{"type":["integer","string"],"format":"int64"}"#,
      ["-9223372036854775808", "9223372036854775807", #""9223372036854775807""#],
      ["9223372036854775808", #""9223372036854775808""#, #""x""#]),
    Case(#"{"type":["number","null"],"format":"double"}"#, ["1.5", "-7", "null"], [#""1.5""#]),
    Case(#"{"type":["integer","null"],"format":"unix-time"}"#, ["1", "null"], ["1.5"]),
    Case(#"{"enum":[1,2],"format":"unix-time"}"#, ["1", "2"], ["3"]),
    Case(#"{"type":"string","format":"password","minLength":1}"#, [#""x y""#], [#""""#]),
    Case(
      #"{"type":"string","format":"base64url"}"#, [#""""#, #""_-_-""#, #""YQ==""#, #""YWI=""#],
      [#""YQ""#, #""YQ=""#, #""+/+/""#, #""Y===""#]),
    Case(#"{"type":"string","format":"byte"}"#, [#""+/+/""#, #""+\/Y=""#], [#""_-_-""#, #""YWI""#]),
    Case(
      #"{"type":"string","format":"uuid4"}"#, [#""8d6e2f6a-0f0b-4c1e-9f3d-0123456789ab""#],
      [#""8d6e2f6a-0f0b-3c1e-9f3d-0123456789ab""#, #""8d6e2f6a-0f0b-4c1e-cf3d-0123456789ab""#]),
    Case(
      #"{"type":"string","format":"multi-host-uri"}"#,
      [#""postgres://u:p@a.b:5432,c.d:5433/db?x=1""#, #""redis://a""#], [#""a:1,b:2""#, #""x:/a""#]),
    Case(#"{"type":["boolean","null"],"title":"t","x-order":1,"examples":[1]}"#, ["true", "null"], ["0", "True"]),
    Case(#"true"#, ["1", "[[],{}]", #"{"a":[null]}"#], ["", "[1", "{1:2}"]),
  ]

  @Test(arguments: cases.indices)
  func aGrammarHasExactlyTheValidTexts(_ index: Int) throws {
    let (schema, accepted, rejected) = (
      Self.cases[index].schema, Self.cases[index].accepted, Self.cases[index].rejected
    )
    let grammar = try grammar(schema)
    for text in accepted { #expect(SimpleRecognizer(text).matches(grammar), "\(schema) \(text)") }
    for text in rejected { #expect(!SimpleRecognizer(text).matches(grammar), "\(schema) \(text)") }
  }

  @Test(arguments: [
    (#"{"properties":{"a/b":{"foo":1}}}"#, "#/properties/a~1b/foo: foo is not a keyword that is supported"),
    (#"{"type":"strin"}"#, #"#/type: type "strin" is not a type"#),
    (#"{"type":"string","format":"regex"}"#, #"#/format: format "regex" is not supported"#),
    (
      #"{"items":{"pattern":"(?=a)"}}"#,
      #"#/items/pattern: pattern "(?=a)": column 1: a lookahead is supported only behind ^ at the beginning, or where $ ends what follows"#
    ),
    (#"{"type":["integer","string"],"format":"int31"}"#, #"#/format: format "int31" is not supported"#),
    (#"{"format":3}"#, "#/format: format is not a string"),
    (#"{"discriminator":"kind"}"#, "#/discriminator: discriminator is not an object"),
    (#"{"$ref":"other.json"}"#, ##"#/$ref: $ref names "other.json", which is not in this schema"##),
    (##"{"$ref":"#/$defs/a"}"##, ##"#/$ref: $ref names "#/$defs/a", which is not in this schema"##),
    (#"{"type":"array","uniqueItems":true}"#, "#/uniqueItems: uniqueItems is not supported"),
    (#"{"type":"array","uniqueItems":true,"items":{"type":"integer"}}"#, "#/uniqueItems: uniqueItems is not supported"),
    (
      #"{"type":"array","uniqueItems":true,"prefixItems":[{"type":"string"},{"const":"a"}],"maxItems":2}"#,
      "#/uniqueItems: uniqueItems is not supported"
    ),
    (
      #"{"not":{"anyOf":[{"properties":{"a":{}}},{}],"unevaluatedProperties":false}}"#,
      "#/not/unevaluatedProperties: the opposite of unevaluatedProperties, which not, oneOf or if asks for, is not supported"
    ),
    (
      ##"{"anyOf":[\##((0..<9).map { ##"{"properties":{"p\##($0)":{}}}"## }.joined(separator: ","))],"unevaluatedProperties":false}"##,
      "#/unevaluatedProperties: unevaluatedProperties depends on more than 200 cases"
    ),
    (
      #"{"$schema":"https://json-schema.org/draft/2019-09/schema","contains":{"const":1},"unevaluatedItems":false}"#,
      "#/unevaluatedItems: unevaluatedItems beside contains is not supported in this draft; items is"
    ),
    (
      ##"{"$id":"http://x/a","$dynamicAnchor":"n","$defs":{"b":{"$id":"b","$dynamicAnchor":"n"}},"items":{"$dynamicRef":"#n"}}"##,
      "#/items/$dynamicRef: $dynamicRef with several possible targets is not supported; $ref is"
    ),
    (##"{"$dynamicRef":"#n"}"##, ##"#/$dynamicRef: $dynamicRef names "#n", which is not in this schema"##),
    (
      #"{"type":"object","minProperties":2,"additionalProperties":{"type":"integer"}}"#,
      "#/minProperties: minProperties of more than one key that is not required is not supported"
    ),
    (#"{"minLength":-1}"#, "#/minLength: minLength is not a whole number from 0"),
    (#"{"allOf":[{"type":"string"},{"type":"integer"}]}"#, "#: no value satisfies the schema"),
    (#"{"required":"a"}"#, "#/required: required is not an array of strings"),
    (#"{"items":3}"#, "#/items: a schema is an object or a boolean"),
    (#"{"multipleOf":0}"#, "#/multipleOf: multipleOf is not above 0"),
    (#"{"multipleOf":99991}"#, "#/multipleOf: multipleOf needs more than 20000 states"),
    (#"{"$schema":"https://example.com/s"}"#, ##"#/$schema: $schema "https://example.com/s" is not supported"##),
    (
      #"{"not":{"additionalProperties":false}}"#,
      "#/not/additionalProperties: the opposite of patternProperties or additionalProperties, which not, oneOf or if asks for, is not supported"
    ),
    (#"{"minItems":1000000000}"#, "#/minItems: minItems, maxItems or contains: more than 10000 items"),
    (#"{"maxLength":1000000000}"#, "#/maxLength: maxLength is above 1000000"),
  ])
  func whatIsNotCoveredIsNamedWithItsPath(_ schema: String, _ message: String) {
    let error = #expect(throws: SchemaError.self) { try grammar(schema) }
    #expect(error?.description == message)
  }

  @Test func propertiesThatMayBeLeftOutNeedSpaceInProportion() throws {
    let properties = (0..<500).map { #""p\#($0)":{"type":"null"}"# }.joined(separator: ",")
    let grammar = try grammar(#"{"type":"object","properties":{\#(properties)},"additionalProperties":false}"#)
    #expect(grammar.names.count < 1_100)
    #expect(SimpleRecognizer(#"{"p3":null,"p77":null}"#).matches(grammar))
    #expect(!SimpleRecognizer(#"{"p77":null,"p3":null}"#).matches(grammar))
  }

  @Test(arguments: [
    // Combinations that double with each step, references in circles, depth, counts.
    "{\"allOf\":[" + (0..<40).map { #"{"anyOf":[{"minimum":\#($0)},{"maxLength":\#($0)}]}"# }.joined(separator: ",")
      + "]}",
    String(repeating: #"{"not":"#, count: 300) + "{}" + String(repeating: "}", count: 300),
    "{\"type\":\"object\",\"patternProperties\":{"
      + (0..<20).map { "\"\($0)\":{\"minimum\":\($0)}" }.joined(separator: ",") + "}}",
    #"{"type":"object","maxProperties":1000000}"#,
    #"{"pattern":"(a|b)*a(a|b){18}$","allOf":[{"pattern":"(b|c)*b(a|c){18}$"},{"pattern":"^[ab]*$"}],"type":"string","not":{"pattern":"^a"}}"#,
  ])
  func hostileSchemasEndInAnError(_ schema: String) {
    #expect(throws: SchemaError.self) { try grammar(schema) }
  }

  @Test(
    .timeLimit(.minutes(1)),
    arguments: [
      ##"{"$ref":"#"}"##, ##"{"allOf":[{"$ref":"#/$defs/a"}],"$defs":{"a":{"anyOf":[{"$ref":"#"},{"type":"null"}]}}}"##,
      ##"{"not":{"$ref":"#"}}"##,
      ##"{"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]}"##,
      ##"{"oneOf":[{"$ref":"#/$defs/a"},{"$ref":"#/$defs/b"}],"$defs":{"a":{"type":"array","items":{"$ref":"#"},"minItems":1},"b":{"type":"array","items":{"$ref":"#/$defs/a"},"minItems":1}}}"##,
    ])
  func referencesInCirclesEnd(_ schema: String) {
    // An error or a grammar: what matters is that there is an end.
    _ = try? grammar(schema)
  }

  @Test func numbersWithinBoundsAreThoseThatCompareSo() throws {
    let bounds = ["-12.5", "-3", "-0.25", "-0.0005", "0", "0.0005", "0.05", "1", "9.99", "10", "99", "100.5"]
    let texts = [
      "-100", "-12.51", "-12.5", "-12.4", "-3", "-2.9", "-0.3", "-0.25", "-0.2", "-0.001", "-0.0006", "-0.00050",
      "-0.0004",
      "0", "0.0", "0.00", "0.0000", "0.00004", "0.0004", "0.0005", "0.00051", "0.001", "0.04", "0.05", "0.051",
      "1", "1.0", "9", "9.98", "9.99", "9.995", "10", "10.0", "50", "98.9", "99", "99.01", "100", "100.5", "100.51",
      "101", "1000",
    ]
    for low in bounds {
      for high in bounds {
        for (lower, upper) in [
          ("minimum", "maximum"), ("exclusiveMinimum", "exclusiveMaximum"), ("minimum", "exclusiveMaximum"),
        ] {
          let compiled = try? grammar(#"{"type":"number","\#(lower)":\#(low),"\#(upper)":\#(high)}"#)
          for text in texts {
            let (value, least, most) = (Double(text)!, Double(low)!, Double(high)!)
            let isWithin =
              (lower == "minimum" ? value >= least : value > least)
              && (upper == "maximum" ? value <= most : value < most)
            let isAccepted = compiled.map { SimpleRecognizer(text).matches($0) } ?? false
            #expect(isAccepted == isWithin, "\(text) with \(lower) \(low), \(upper) \(high)")
          }
        }
      }
    }
  }

  @Test func multiplesAreThoseWithoutRemainder() throws {
    for divisor in [1, 2, 3, 5, 7, 12, 60] {
      let whole = try grammar(#"{"type":"integer","multipleOf":\#(divisor)}"#)
      let hundredths = try grammar(#"{"type":"number","multipleOf":\#(Double(divisor) / 100)}"#)
      for number in Swift.stride(from: -130, through: 130, by: 1) {
        #expect(SimpleRecognizer("\(number)").matches(whole) == (number % divisor == 0 && "\(number)" != "-0"))
        let text = DecimalNumber(.number(Double(number) / 100))!.text
        #expect(SimpleRecognizer(text).matches(hundredths) == (number % divisor == 0), "\(text) of \(divisor)")
      }
    }
  }

  @Test func anyObjectAndChoices() throws {
    #expect(SimpleRecognizer("{\"a\": [1, {\"b\": \"\\n\"}], \"a\": null}").matches(Grammar.jsonObject))
    #expect(!SimpleRecognizer("[1]").matches(Grammar.jsonObject))
    let endless = "{" + String(repeating: " ", count: 40) + "}"
    #expect(!SimpleRecognizer(endless).matches(Grammar.jsonObject))
    let choice = try Grammar.choice(["yes", "no"])
    #expect(SimpleRecognizer("no").matches(choice) && !SimpleRecognizer("yesno").matches(choice))
  }
}
