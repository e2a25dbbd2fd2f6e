import Formats
import Testing

@testable import Grammars

/// Masks of vocabularies with plain and other tokens, held to trying each token.
@Suite struct MaskTests {
  private static let vocabulary = TestVocabulary.small

  private static func check(_ compiled: CompiledGrammar, seed: UInt64, steps: Int, _ comment: String) throws {
    var random = SeededGenerator(state: seed)
    var check = try MaskCheck(compiled)
    for _ in 0..<steps {
      try check.computeMask()
      let wrong = try check.differences(vocabulary.tokens.indices)
      #expect(wrong.isEmpty, "\(comment): \(check.text) + \(wrong.map { vocabulary.tokens[$0] })")
      guard try check.advance(&random) else { return }
    }
  }

  /// Vocabularies of the sizes that models have. Of each mask some tokens are tried, others in each state.
  @Test(arguments: [49_152, 128_256])
  func masksOfLargeVocabularies(size: Int) throws {
    let vocabulary = TestVocabulary.large(size)
    #expect(vocabulary.count == size && Set(vocabulary.tokens).count == size - 199)
    var random = SeededGenerator(state: UInt64(size))
    for schema in [
      "{}", "{\"type\":\"string\",\"maxLength\":12}", "{\"type\":\"string\",\"pattern\":\"^[a-zé]{2,9}( [A-Z]|日)*$\"}",
      "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"},\"age\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":150}},\"required\":[\"name\",\"age\"],\"additionalProperties\":false}",
      "{\"type\":\"array\",\"items\":{\"enum\":[\"red\",\"green\",\"é\",12,null]}}",
      "{\"type\":\"string\",\"format\":\"date-time\"}",
    ] {
      let grammar = try JSONSchemaCompiler.grammar(for: try JSONValue.parse(Array(schema.utf8), subject: "schema"))
      let compiled = try CompiledGrammar(grammar, vocabulary: vocabulary)
      for _ in 0..<2 {
        var check = try MaskCheck(compiled)
        for _ in 0..<6 {
          try check.computeMask()
          let first = Int.random(in: 0..<61, using: &random)
          let wrong = try check.differences(stride(from: first, to: size, by: 61))
          #expect(wrong.isEmpty, "\(schema): \(check.text) + \(wrong.map { vocabulary.tokens[$0] })")
          guard try check.advance(&random) else { break }
        }
      }
    }
  }

  @Test(arguments: [
    "{\"type\":\"string\"}", "{\"type\":\"string\",\"maxLength\":5}",
    "{\"type\":\"string\",\"minLength\":3,\"maxLength\":17}",
    "{\"type\":\"string\",\"maxLength\":40}", "{\"type\":\"string\",\"pattern\":\"^[a-z]*$\"}",
    "{\"type\":\"string\",\"pattern\":\"^a*é{0,20}$\"}", "{\"type\":\"string\",\"pattern\":\"aaa\"}",
    "{\"type\":\"string\",\"pattern\":\"^.{2}(.{3})*$\"}",
    "{\"type\":\"string\",\"pattern\":\"^[A-Za-z]{0,4}é?[a-z]*$\"}",
    "{\"type\":\"string\",\"pattern\":\"^[^x]{3}$\"}", "{\"type\":\"string\",\"format\":\"email\"}",
    "{\"type\":\"string\",\"format\":\"uri\"}", "{\"type\":\"string\",\"format\":\"uuid\"}",
    "{\"type\":\"string\",\"enum\":[\"a\",\"aa\",\"éé\",\"name\",\"\"]}",
    "{\"type\":\"number\",\"multipleOf\":0.5}", "{\"type\":\"number\",\"exclusiveMinimum\":0}",
    "{\"type\":\"number\",\"exclusiveMaximum\":0,\"minimum\":-1}", "{\"type\":\"number\",\"not\":{\"const\":0}}",
    "{\"type\":\"object\"}",
    "{\"type\":\"array\",\"items\":{\"type\":[\"number\",\"string\",\"null\"]}}",
    "{\"properties\":{\"name\":{\"type\":\"integer\"},\"aaaaa\":{\"type\":\"string\"}}}", "{}",
  ])
  func masksOfSchemas(schema: String) throws {
    let grammar = try JSONSchemaCompiler.grammar(for: try JSONValue.parse(Array(schema.utf8), subject: "schema"))
    let compiled = try CompiledGrammar(grammar, vocabulary: Self.vocabulary)
    for seed in 0..<3 { try Self.check(compiled, seed: UInt64(seed), steps: 8, schema) }
  }

  @Test(arguments: ["(.|\\n)*", "[^<]*", "a{0,30}", "\\p{L}{3,18}", "(aé)*", "[\\x00-\\x7f]*", ".*\"x", "[a日]*x?"])
  func masksOfExpressions(pattern: String) throws {
    let compiled = try CompiledGrammar(
      Grammar(try RegularExpressionParser.expression(pattern)), vocabulary: Self.vocabulary)
    for seed in 0..<3 { try Self.check(compiled, seed: UInt64(seed), steps: 8, pattern) }
  }

  /// Bytes that are no text, as in text that must not contain a tag.
  @Test func masksOfTextWithoutATag() throws {
    let any = ByteExpression.repetition(.byte(.all), minimum: 0, maximum: nil)
    let grammar = Grammar(.complement(.sequence([any, .literal("aaaaaé"), any])))
    let compiled = try CompiledGrammar(grammar, vocabulary: Self.vocabulary)
    for seed in 0..<6 { try Self.check(compiled, seed: UInt64(seed), steps: 8, "text without a tag") }
  }

  @Test(
    arguments: [
      ("", 0), ("a", 1), ("aé日😀", 4), ("a\"", nil), ("\\", nil), ("\n", nil), ("\u{7F}", 1), ("\u{10FFFF}", 1),
    ] as [(String, Int?)])
  func plainTextIsCounted(text: String, length: Int?) {
    #expect(PlainText.length(Array(text.utf8)) == length)
  }

  @Test(arguments: [[0x80], [0xC0, 0x80], [0xE0, 0x80, 0x80], [0xED, 0xA0, 0x80], [0xF4, 0x90, 0x80, 0x80], [0xC3]])
  func otherBytesAreNoPlainText(bytes: [Int]) { #expect(PlainText.length(bytes.map { UInt8($0) }) == nil) }
}
