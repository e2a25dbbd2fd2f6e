import Formats
import Testing

@testable import Grammars

/// Numbers of schemas that no double holds, and texts around them. What is accepted is valid also for readers that take
/// numbers with a fraction or an exponent for doubles.
@Suite struct ExactNumberTests {
  private func grammar(_ schema: String) throws -> Grammar {
    let value = try JSONValue.parse(schema.utf8, subject: "schema", limits: JSONLimits(allowsAnyNumber: true))
    return try JSONSchemaCompiler.grammar(for: value)
  }

  @Test(arguments: [
    // Integers beyond 53 and beyond 64 bits.
    (#"{"const":9007199254740993}"#, ["9007199254740993"], ["9007199254740992", "9007199254740994"]),
    (
      #"{"const":12345678901234567890123}"#, ["12345678901234567890123"],
      ["12345678901234567000000", "12345678901234568000000"]
    ),
    (
      #"{"enum":[18446744073709551617,"a",{"b":[-98765432109876543210]}]}"#,
      ["18446744073709551617", #"{"b":[-98765432109876543210]}"#],
      ["18446744073709552000", "18446744073709551616", #"{"b":[-98765432109876540000]}"#]
    ),
    (#"{"const":100000000000000000000000}"#, ["100000000000000000000000"], ["1e+23"]),
    (
      #"{"type":"integer","minimum":12345678901234567890123,"maximum":12345678901234567890125}"#,
      ["12345678901234567890123", "12345678901234567890125"],
      ["12345678901234567890122", "12345678901234567890126", "12345678901234567000000", "12345678901234568000000"]
    ),
    (
      #"{"type":"integer","exclusiveMinimum":-12345678901234567890123,"exclusiveMaximum":-12345678901234567890120}"#,
      ["-12345678901234567890122", "-12345678901234567890121"],
      ["-12345678901234567890123", "-12345678901234567890120"]
    ),
    (
      #"{"type":"integer","not":{"const":12345678901234567890123}}"#, ["12345678901234567890122"],
      ["12345678901234567890123"]
    ),
    (
      #"{"enum":[12345678901234567890123,12345678901234567890124],"maximum":12345678901234567890123}"#,
      ["12345678901234567890123"], ["12345678901234567890124"]
    ),
    // More digits than a double keeps.
    (#"{"const":0.1234567890123456789}"#, ["0.1234567890123456789"], ["0.12345678901234568", "0.123456789012345678"]),
    (
      #"{"type":"number","minimum":0.1234567890123456789,"maximum":0.12345678901234567891}"#,
      ["0.1234567890123456789", "0.12345678901234567891"], ["0.12345678901234568", "0.1234567890123456788", "0.2"]
    ),
    (#"{"type":"number","multipleOf":0.50000000}"#, ["0.5", "1"], ["0.25"]),
    // Large numbers that are not written as integers: as they are, and as doubles.
    (#"{"const":1e23}"#, ["1e+23"], ["100000000000000000000000", "99999999999999991611392"]),
    (#"{"const":1.00000000000000000000001e23}"#, ["1.00000000000000000000001e23"], ["100000000000000000000001"]),
    (
      #"{"type":"integer","maximum":1e23}"#, ["99999999999999991611392"],
      ["99999999999999991611393", "100000000000000000000000"]
    ),
    (
      #"{"type":"integer","not":{"minimum":1e23}}"#, ["99999999999999991611391"],
      ["99999999999999991611392", "99999999999999999999999"]
    ),
    (
      #"{"type":"integer","minimum":3e22,"exclusiveMaximum":1e23}"#,
      ["30000000000000000000000", "99999999999999991611391"],
      ["29999999999999999999999", "99999999999999991611392"]
    ),
    // Counts.
    (#"{"type":"string","minLength":2.0,"maxLength":3e0}"#, [#""ab""#, #""abc""#], [#""a""#, #""abcd""#]),
    (
      #"{"type":"array","items":{"const":1},"minItems":1.0,"maxItems":20e-1}"#, ["[1]", "[1,1]"], ["[]", "[1,1,1]"]
    ),
    // What says nothing about values.
    (#"{"const":1,"default":1e400,"examples":[1e-400]}"#, ["1"], ["2"]),
  ])
  func numbersAreReadExactly(_ schema: String, _ accepted: [String], _ rejected: [String]) throws {
    let grammar = try grammar(schema)
    for text in accepted { #expect(SimpleRecognizer(text).matches(grammar), "\(text)") }
    for text in rejected { #expect(!SimpleRecognizer(text).matches(grammar), "\(text)") }
  }

  /// What no double holds is read as the bound, or as the excluded value, next to it.
  @Test(arguments: ["0", "1", "-1", "0.1", "5", "-2.5", "0.0000001", "123456.789", "9007199254740991"])
  func whatIsReadAsAnExcludedNumberIsNotAccepted(_ number: String) throws {
    let value = try #require(Double(number))
    let below = "\(DecimalNumber(shortest: value.nextDown).text)"
    let above = "\(DecimalNumber(shortest: value.nextUp).text)"
    // Digits so far after the last one of the number that no double differs from it by them; those of 0 differ from it by less
    // than any double.
    let digits = number.contains(".") ? number : number + "."
    let further = digits + String(repeating: "0", count: value == 0 ? 400 : 30) + "1"
    for (schema, isBelow, isAbove) in [
      (#"{"type":"number","exclusiveMaximum":N}"#, true, false),
      (#"{"type":"number","exclusiveMinimum":N}"#, false, true),
      (#"{"type":"number","not":{"minimum":N}}"#, true, false),
      (#"{"type":"number","not":{"maximum":N}}"#, false, true),
      (#"{"type":"number","not":{"const":N}}"#, true, true),
    ] {
      let grammar = try grammar(schema.replacing("N", with: number))
      #expect(SimpleRecognizer(below).matches(grammar) == isBelow, "\(schema) \(below)")
      #expect(SimpleRecognizer(above).matches(grammar) == isAbove, "\(schema) \(above)")
      #expect(Double(further) == value)
      for text in [number, further] { #expect(!SimpleRecognizer(text).matches(grammar), "\(schema) \(text)") }
    }
    let inclusive = try grammar(#"{"type":"number","minimum":N,"maximum":N}"#.replacing("N", with: number))
    #expect(SimpleRecognizer(number).matches(inclusive))
  }

  @Test(arguments: [
    (#"{"properties":{"a":{"minimum":1e400}}}"#, "#/properties/a/minimum: minimum has the number 1e400"),
    (#"{"items":{"exclusiveMaximum":-1e400}}"#, "#/items/exclusiveMaximum: exclusiveMaximum has the number -1e400"),
    (#"{"multipleOf":1e-400}"#, "#/multipleOf: multipleOf has the number 1e-400"),
    (#"{"anyOf":[{"const":1e400},{}]}"#, "#/anyOf/0/const: const has the number 1e400"),
    (#"{"enum":[1,{"a":[1e999999999999999999999]}]}"#, "#/enum: enum has the number 1e999999999999999999999"),
    (#"{"maxLength":1e400}"#, "#/maxLength: maxLength has the number 1e400"),
  ])
  func numbersBeyondDoublesAreNamedWithTheirPath(_ schema: String, _ message: String) {
    let error = #expect(throws: SchemaError.self) { try grammar(schema) }
    #expect(error?.description == message + ", which is beyond the range of doubles")
  }

  @Test(arguments: [
    (#"{"maxLength":1e30}"#, "#/maxLength: maxLength is above 1000000"),
    (#"{"minItems":100000000000000000000}"#, "#/minItems: minItems, maxItems or contains: more than 10000 items"),
    (#"{"maxItems":1e30}"#, "#/maxItems: minItems, maxItems or contains: more than 10000 items"),
    (#"{"maxProperties":1e30}"#, "#/maxProperties: minProperties or maxProperties above 2000"),
    (#"{"contains":{},"minContains":1e30}"#, "#/contains: minItems, maxItems or contains: more than 10000 items"),
    (#"{"maxLength":2.00000000000000000001}"#, "#/maxLength: maxLength is not a whole number from 0"),
    (#"{"minLength":-1e30}"#, "#/minLength: minLength is not a whole number from 0"),
    (#"{"minItems":1.5}"#, "#/minItems: minItems is not a whole number from 0"),
    (
      #"{"minimum":1\#(String(repeating: "0", count: 100))}"#, "#/minimum: minimum has more than 100 digits"
    ),
  ])
  func largeCountsAndBoundsAreNamedWithTheirPath(_ schema: String, _ message: String) {
    let error = #expect(throws: SchemaError.self) { try grammar(schema) }
    #expect(error?.description == message)
  }
}
